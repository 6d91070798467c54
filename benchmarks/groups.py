"""Where a system errs: its trials by what is known of them, from the protocol or from the corpus's metadata.csv.

    values = column_of(partition, table.utterance, "family")
    for group in by_value(table, values): print(group.value, group.eer)

A column that only spoofs have (family: bona fide clips say `-`) is read as attacks are: the spoofs of a value against
all bona fide trials. A column that both classes have (mp3, language) is read within: both classes of that value alone.
The column decides, not the value, so that all rows of a table mean the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError
from train.data.corpus import Partition, find_metadata, read_metadata
from train.evaluate.bootstrap import bootstrap_eer
from train.evaluate.metrics import eer
from train.evaluate.scorefile import ScoreTable

PROTOCOL_COLUMNS = (
    "speaker",
    "condition",
    "subset",
)  # of train.data.protocols.Trial; attacks have a table of their own
USUAL = "family"  # shown unasked where there is such a column
UNKNOWN = "(not listed)"  # trials that metadata.csv does not have

Reading = Literal["against all bona fide", "within"]


@dataclass(frozen=True)
class Group:
    """The trials of one value."""

    value: str
    bonafide: int  # that the rate is measured with
    spoof: int
    eer: float | None  # None: one class only
    interval: tuple[float, float] | None


def usual_columns(partition: Partition) -> tuple[str, ...]:
    """What is shown where nothing was asked for."""
    if find_metadata(partition) is None:
        return ()
    _, columns, _ = read_metadata(partition)
    return (USUAL,) if USUAL in columns else ()


def column_of(partition: Partition, utterances: Sequence[str], column: str) -> NDArray[np.str_]:
    """What a column says of each utterance, (n,); metadata.csv goes before the protocol."""
    known: tuple[str, ...] = PROTOCOL_COLUMNS
    if find_metadata(partition) is not None:
        _, columns, rows = read_metadata(partition)
        if column in columns:
            return np.array([rows[name][column] if name in rows else UNKNOWN for name in utterances])
        known = (*columns, *PROTOCOL_COLUMNS)
    if column not in PROTOCOL_COLUMNS:
        raise ShrikeError(f"--by {column}: there is no such column; known are {', '.join(known)}")
    of_trial = {trial.utterance: getattr(trial, column) for trial in partition.trials}
    return np.array([of_trial[name] for name in utterances])


def reading_of(table: ScoreTable, values: NDArray[np.str_]) -> Reading:
    """Whether a column tells spoofs apart, or both classes."""
    shared = set(values[table.is_bonafide].tolist()) & set(values[~table.is_bonafide].tolist()) - {UNKNOWN}
    return "within" if shared else "against all bona fide"


def by_value(table: ScoreTable, values: NDArray[np.str_], bootstrap: int = 1000, seed: int = 0) -> list[Group]:
    """One group for each value, (n,), that can err; sorted by value."""
    within = reading_of(table, values) == "within"
    groups = []
    for value in sorted(set((values if within else values[~table.is_bonafide]).tolist())):
        mine = values == value
        bonafide = table.score[table.is_bonafide & mine] if within else table.bonafide
        spoof = table.score[~table.is_bonafide & mine]
        rate, interval = None, None
        if len(bonafide) and len(spoof):
            rate = eer(bonafide, spoof)
            interval = bootstrap_eer(bonafide, spoof, bootstrap, seed) if bootstrap else None
        groups.append(Group(value, len(bonafide), len(spoof), rate, interval))
    return groups
