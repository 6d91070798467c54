"""Trials of several corpora, with their columns, and the bootstrap over their sources.

    trials = open_trials([Path("../shared/corpus"), Path("../shared/asvspoof")], "eval", only="open=1")
    trials.column(utterances, "language")                        # (n,); "part": corpus 1, corpus 2, asvspoof
    for drawn in draws(is_bonafide, sources, 1000, seed=0):      # how often each trial is in each resample
        weighted_eers(is_bonafide, drawn)                        # (resamples of this piece,)

Clips of one demonstration page, package or speaker are alike, so whole sources are drawn. A class from fewer than
FEWEST sources is resampled by clips: two or three sources give no interval. Equal trials, sources and seed give equal
draws, so that differences between systems are paired.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError
from train.data.corpora import has_columns
from train.data.corpus import Partition, Trial, find_metadata, open_corpus, read_metadata, select
from train.data.folds import sources
from train.evaluate.bootstrap import Counts
from train.evaluate.metrics import Bools

FEWEST = 5  # sources of a class
PIECE = 1 << 20  # counts at once: bounds the memory of a large list
PROTOCOL_COLUMNS = ("speaker", "condition", "subset")  # of train.data.protocols.Trial
NOT_LISTED = "(not listed)"  # value of trials without the column
USUAL = ("part", "family_seen_in_train", "kind", "open", "language", "codec", "source", "family")  # where they exist


@dataclass(frozen=True)
class TrialList:
    """The trials of one partition of every corpus."""

    partitions: tuple[Partition, ...]

    @property
    def name(self) -> str:
        return f"{self.partitions[0].name} of {' and '.join(part.root.name for part in self.partitions)}"

    @property
    def trials(self) -> list[Trial]:
        return [trial for partition in self.partitions for trial in partition.trials]

    @property
    def missing(self) -> int:
        return sum(len(partition.missing) for partition in self.partitions)

    def describe(self) -> str:
        return "; ".join(f"{part.root.name}, {part.describe()}" for part in self.partitions)

    def identity(self) -> str:
        """Hash of all trials."""
        found = [partition.identity() for partition in self.partitions]
        return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()

    @cached_property
    def rows(self) -> dict[str, dict[str, str]]:
        """Columns of every trial by its utterance: metadata.csv's, the protocol's, source, corpus and part."""
        found: dict[str, dict[str, str]] = {}
        for partition in self.partitions:
            listed = read_metadata(partition)[2] if find_metadata(partition) is not None else {}
            for trial, source in zip(partition.trials, sources(partition), strict=True):
                row = {column: getattr(trial, column) for column in PROTOCOL_COLUMNS}
                row |= listed.get(trial.utterance, {}) | {"source": source, "corpus": partition.root.name}
                row["part"] = f"{row['corpus']} {row.get('set', '')}".strip()
                if found.setdefault(trial.utterance, row) is not row:
                    raise ShrikeError(f"{trial.utterance}: in two corpora; expected different utterances")
        return found

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(column for row in self.rows.values() for column in row))

    def usual(self) -> list[str]:
        """Columns to split by where the user names none: those with at least two values."""
        known = self.columns
        return [name for name in USUAL if name in known and len({row.get(name) for row in self.rows.values()}) > 1]

    def column(self, utterances: Sequence[str], name: str) -> NDArray[np.str_]:
        """A column's value of each utterance, (n,)."""
        if name not in self.columns:
            raise ShrikeError(f"--by {name}: unknown column; expected one of {', '.join(self.columns)}")
        return np.array([self.rows[utterance].get(name, NOT_LISTED) for utterance in utterances])


def open_trials(
    corpora: Sequence[Path], partition: str, protocol: Path | None = None, subsets: Collection[str] = ("eval",),
    only: str = "",
) -> TrialList:  # fmt: skip
    """Open the partition of every corpus. `only` selects in those corpora whose metadata.csv has its columns."""
    found = list[Partition]()
    for root in corpora:
        whole = open_corpus(root, partition, protocol, subsets)
        known = len(corpora) == 1 or has_columns(whole, only)
        chosen = select(whole, only if known else "")
        if not (chosen.bonafide and chosen.spoof) or chosen.unlabelled:
            raise ShrikeError(
                f"{chosen.protocol}: expected both classes, all labelled; python -m train.score scores any list"
            )
        found.append(chosen)
    return TrialList(tuple(found))


def draws(is_bonafide: Bools, groups: NDArray[np.str_] | None, resamples: int, seed: int) -> Iterator[Counts]:
    """Yield pieces of (resamples, trials); resamples that lack a class which the trials have are left out.

    `groups`: the source of each trial; None resamples clips within each class.
    """
    rng, size = np.random.default_rng(seed), max(1, PIECE // max(1, is_bonafide.size))
    classes = [of_class for of_class in (is_bonafide, ~is_bonafide) if of_class.any()]
    by_source = [groups is not None and len(set(groups[of_class].tolist())) >= FEWEST for of_class in classes]
    strata = [(np.flatnonzero(of_class), np.arange(np.count_nonzero(of_class)))
              for of_class, together in zip(classes, by_source, strict=True) if not together]  # fmt: skip
    if groups is not None and any(by_source):
        joint = np.flatnonzero(np.any([of_class for of_class, one in zip(classes, by_source, strict=True) if one], 0))
        strata.append((joint, np.unique(groups[joint], return_inverse=True)[1]))
    for start in range(0, resamples, size):
        drawn = np.zeros((min(size, resamples - start), is_bonafide.size), np.int64)
        for places, unit in strata:
            count = int(unit.max()) + 1
            drawn[:, places] = rng.multinomial(count, np.full(count, 1 / count), len(drawn))[:, unit]
        for of_class in classes:
            drawn = drawn[drawn[:, of_class].any(axis=1)]
        yield drawn
