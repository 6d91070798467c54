"""Partitions of a corpus: the trials of a protocol and their audio files.

    partition = open_corpus("/data/LA", "train")        # 2019 LA and PA, 2021, 5, or protocols/train.txt
    print(partition.describe())                         # train: 25,380 trials (2,580 bona fide, 22,800 spoof …)
    partition = select(partition, "open=1,mp3=0")       # by the columns of metadata.csv

Columns identify a protocol's format (train.data.protocols); file names identify protocols and audio, in any layout of
directories (train.data.corpus_index). Trials without audio are counted and reported. Of 2021's subsets only `eval`
counts, as in the official scoring.
"""

import hashlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearest
from train.data.corpus_index import EXTENSIONS, PROTOCOLS, CorpusIndex, first_few
from train.data.protocols import Trial, read_protocol
from train.data.selection import find_metadata, read_metadata, select

__all__ = ["Partition", "Trial", "find_metadata", "open_corpus", "read_metadata", "read_protocol", "select"]


@dataclass(frozen=True)
class Partition:
    """The trials of a protocol that have audio, and the names of the others."""

    name: str  # train, dev or eval
    root: Path
    protocol: Path
    trials: tuple[Trial, ...]
    missing: tuple[str, ...]
    selection: str = ""  # the expression of select()
    parts: tuple["Partition", ...] = ()  # of several corpora (train.data.corpora)

    @property
    def bonafide(self) -> int:
        return sum(trial.bonafide is True for trial in self.trials)

    @property
    def spoof(self) -> int:
        return sum(trial.bonafide is False for trial in self.trials)

    @property
    def unlabelled(self) -> int:
        return sum(trial.bonafide is None for trial in self.trials)

    @property
    def attacks(self) -> tuple[str, ...]:
        return tuple(sorted({trial.attack for trial in self.trials if trial.bonafide is False}))

    def by_corpus(self) -> list[tuple[str, tuple[Trial, ...]]]:
        """Return the trials of each corpus, in order, with its root."""
        here = {trial.utterance for trial in self.trials}
        found = [
            (str(part.root), tuple(trial for trial in part.trials if trial.utterance in here))
            for part in self.parts or (self,)
        ]
        return [(root, trials) for root, trials in found if trials]

    def describe(self) -> str:
        """Return one sentence: counts of trials and attacks, and missing audio."""
        what = f"{self.bonafide:,} bona fide, {self.spoof:,} spoof, {_count(len(self.attacks), 'attack')}"
        if self.unlabelled:
            what = "without labels"
        name = f"{self.name} where {self.selection}" if self.selection else self.name
        missing = f", {len(self.missing):,} without audio: {first_few(self.missing)}" if self.missing else ""
        return f"{name}: {_count(len(self.trials), 'trial')} ({what}){missing}"

    def identity(self) -> str:
        """Hash of utterances, keys and attacks, independent of their order and place; stored in checkpoints."""
        key = {True: "bonafide", False: "spoof", None: "-"}
        lines = sorted(f"{trial.utterance} {key[trial.bonafide]} {trial.attack}\n" for trial in self.trials)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_corpus(
    root: str | os.PathLike[str] | CorpusIndex,
    partition: str,
    protocol: str | os.PathLike[str] | None = None,
    subsets: Collection[str] = ("eval",),
) -> Partition:
    """Open the `partition` (train, dev or eval) of the corpus below `root`, by its own protocol or the one given.

    To open several, pass a CorpusIndex, which walks the directories once.
    """
    if partition not in PROTOCOLS:
        raise ShrikeError(
            f"unknown partition {partition!r}; expected one of {', '.join(PROTOCOLS)}{nearest(partition, PROTOCOLS)}"
        )
    tree = root if isinstance(root, CorpusIndex) else CorpusIndex(root)
    if protocol is None:
        path, listed = _choose(tree, partition)
    else:
        path = Path(os.path.abspath(protocol))
        listed = read_protocol(path)
    if partition != "eval" and any(trial.bonafide is None for trial in listed):
        raise ShrikeError(f"{path} has no labels; the {partition} partition needs them")
    counted = [trial for trial in listed if not trial.subset or trial.subset in subsets]
    if not counted:
        known = ", ".join(sorted({trial.subset for trial in listed}))
        raise ShrikeError(f"{path} has no trials of the subset {' or '.join(subsets)}; it has: {known}")
    trials: list[Trial] = []
    missing: list[str] = []
    for trial in counted:
        sound = tree.sound(trial.utterance)
        if sound is None:
            missing.append(trial.utterance)
            continue
        # A constructor call, because dataclasses.replace() takes three times as long.
        labels = trial.utterance, trial.speaker, trial.attack, trial.bonafide
        trials.append(Trial(*labels, Path(sound), trial.condition, trial.subset))
    if not trials:
        raise _no_audio(tree, path, counted)
    return Partition(partition, Path(tree.root), path, tuple(trials), tuple(missing))


def _choose(tree: CorpusIndex, partition: str) -> tuple[Path, list[Trial]]:
    """Choose the protocol below the root that has audio there, and labels if any of those has."""
    if not tree.protocols[partition]:
        raise ShrikeError(
            f"no {partition} protocol below {tree.root}; expected {', '.join(PROTOCOLS[partition])} (also .gz); "
            "give the protocol itself if it has another name"
        )
    listed = {path: read_protocol(path) for path in sorted(tree.protocols[partition])}
    if len(listed) == 1:
        return next(iter(listed.items()))
    fitting = {p: trials for p, trials in listed.items() if any(tree.sound(trial.utterance) for trial in trials)}
    labelled = {path: trials for path, trials in fitting.items() if trials[0].bonafide is not None}
    different: dict[Path, list[Trial]] = {}
    for path, trials in (labelled or fitting).items():
        if trials not in different.values():  # copies of one protocol, compressed or not, count once
            different[path] = trials
    if not different:
        path, trials = next(iter(listed.items()))
        raise _no_audio(tree, path, trials)
    if len(different) > 1:
        raise ShrikeError(
            f"several {partition} protocols fit below {tree.root}: {', '.join(map(str, different))}; "
            "point --corpus deeper, or give the protocol itself"
        )
    return next(iter(different.items()))


def _no_audio(tree: CorpusIndex, protocol: Path, trials: list[Trial]) -> ShrikeError:
    closed = f"; unreadable: {first_few(tree.closed)}" if tree.closed else ""
    return ShrikeError(
        f"none of the {len(trials):,} utterances of {protocol} has audio below {tree.root}: "
        f"{trials[0].utterance}.{', .'.join(EXTENSIONS)} was expected among {len(tree.audio):,} audio files{closed}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
