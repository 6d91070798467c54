"""Trials of several corpora, with their columns, and the source of each for the bootstrap.

trials = open_trials([Path("../shared/corpus"), Path("../shared/asvspoof")], "eval", only="open=1")
trials.column(utterances, "language")           # (n,)
trials.column(utterances, "part")               # corpus 1, corpus 2, asvspoof
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError
from train.data.corpora import has_columns
from train.data.corpus import Partition, Trial, find_metadata, open_corpus, read_metadata, select
from train.data.folds import sources

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
