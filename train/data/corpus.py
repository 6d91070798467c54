"""ASVspoof protocols to trials: what there is to train on, what it is called, and where its sound lies.

    partition = open_corpus("/data/LA", "train")        # 2019 LA and PA, 2021, 5, or protocols/train.txt
    print(partition.describe())                         # train: 25,380 trials (2,580 bona fide, 22,800 spoof …)
    partition = select(partition, "open=1,mp3=0")       # by the columns of metadata.csv

A protocol's form is known by its columns (train.data.protocols), its place and that of the sound by their names, whatever
the layout of the directories (train.data.corpus_index). Trials without sound are counted and named, never silently dropped. Of
2021's subsets only `eval` counts, as in the official scoring.
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
    """The trials of a protocol whose sound was found, and the names of the others."""

    name: str  # train, dev or eval
    root: Path
    protocol: Path
    trials: tuple[Trial, ...]
    missing: tuple[str, ...]
    selection: str = ""  # what select() was asked for

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

    def describe(self) -> str:
        """One sentence: how many of what, and what is missing."""
        what = f"{self.bonafide:,} bona fide, {self.spoof:,} spoof, {_count(len(self.attacks), 'attack')}"
        if self.unlabelled:
            what = "without labels"
        name = f"{self.name} where {self.selection}" if self.selection else self.name
        missing = f", {len(self.missing):,} without audio: {first_few(self.missing)}" if self.missing else ""
        return f"{name}: {_count(len(self.trials), 'trial')} ({what}){missing}"

    def identity(self) -> str:
        """sha256 over what the trials are, whatever their order and wherever they lie; the checkpoint keeps it."""
        key = {True: "bonafide", False: "spoof", None: "-"}
        lines = sorted(f"{trial.utterance} {key[trial.bonafide]} {trial.attack}\n" for trial in self.trials)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_corpus(
    root: str | os.PathLike[str] | CorpusIndex,
    partition: str,
    protocol: str | os.PathLike[str] | None = None,
    subsets: Collection[str] = ("eval",),
) -> Partition:
    """The `partition` (train, dev or eval) of the corpus below `root`, by its own protocol or the one given.

    Whoever opens several gives the CorpusIndex, so that the directories are walked once.
    """
    if partition not in PROTOCOLS:
        raise ShrikeError(
            f"there is no partition {partition!r}; available: {', '.join(PROTOCOLS)}{nearest(partition, PROTOCOLS)}"
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
        # dataclasses.replace() would take three times as long.
        trials.append(
            Trial(
                trial.utterance,
                trial.speaker,
                trial.attack,
                trial.bonafide,
                Path(sound),
                trial.condition,
                trial.subset,
            )
        )
    if not trials:
        raise _no_audio(tree, path, counted)
    return Partition(partition, Path(tree.root), path, tuple(trials), tuple(missing))


def _choose(tree: CorpusIndex, partition: str) -> tuple[Path, list[Trial]]:
    """The one protocol below the root that fits: it has audio there, and labels if any of those has."""
    if not tree.protocols[partition]:
        raise ShrikeError(
            f"no {partition} protocol below {tree.root}; looked for {', '.join(PROTOCOLS[partition])} (also .gz); "
            "give the protocol itself if it has another name"
        )
    listed = {path: read_protocol(path) for path in sorted(tree.protocols[partition])}
    if len(listed) == 1:
        return next(iter(listed.items()))
    fitting = {p: trials for p, trials in listed.items() if any(tree.sound(trial.utterance) for trial in trials)}
    labelled = {path: trials for path, trials in fitting.items() if trials[0].bonafide is not None}
    different: dict[Path, list[Trial]] = {}
    for path, trials in (labelled or fitting).items():
        if trials not in different.values():  # copies of one protocol, packed or not, count once
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
    closed = f"; may not look into {first_few(tree.closed)}" if tree.closed else ""
    return ShrikeError(
        f"none of the {len(trials):,} utterances of {protocol} has audio below {tree.root}: "
        f"{trials[0].utterance}.{', .'.join(EXTENSIONS)} was expected among {len(tree.audio):,} audio files{closed}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
