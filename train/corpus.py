"""ASVspoof protocols to trials: what there is to train on, what it is called, and where its sound lies.

    partition = open_corpus("/data/LA", "train")        # 2019 LA and PA, 2021, 5, or protocols/train.txt
    print(partition.describe())                         # train: 25,380 trials (2,580 bona fide, 22,800 spoof …)
    partition = select(partition, "open=1,mp3=0")       # by the columns of metadata.csv

A protocol's form is known by its columns, its place by the official names. Sound is found by one walk through the
directories, whatever their layout: it is the file whose name without extension is the utterance. Trials without sound
are counted and named, never silently dropped. Of 2021's subsets only `eval` counts, as in the official scoring.
"""

import csv
import hashlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.errors import ShrikeError
from runtime.suggestions import nearby, nearest
from train.protocols import Trial, read_protocol

__all__ = ["Partition", "Trial", "find_metadata", "open_corpus", "read_metadata", "read_protocol", "select"]

EXTENSIONS = ("flac", "wav", "ogg", "mp3")  # the best first: it wins where an utterance has several
NAMES_SHOWN = 5  # in a message that could list thousands

# Where the protocol of a partition lies: the end of its path, with or without .gz.
PROTOCOLS = {
    "train": ("ASVspoof2019.LA.cm.train.trn.txt", "ASVspoof2019.PA.cm.train.trn.txt", "ASVspoof5.train.tsv",
              "ASVspoof5.train.metadata.txt", "protocols/train.txt"),
    "dev": ("ASVspoof2019.LA.cm.dev.trl.txt", "ASVspoof2019.PA.cm.dev.trl.txt", "ASVspoof5.dev.track_1.tsv",
            "ASVspoof5.dev.metadata.txt", "protocols/dev.txt"),
    "eval": ("ASVspoof2019.LA.cm.eval.trl.txt", "ASVspoof2019.PA.cm.eval.trl.txt", "CM/trial_metadata.txt",
             "ASVspoof2021.LA.cm.eval.trl.txt", "ASVspoof2021.DF.cm.eval.trl.txt", "ASVspoof2021.PA.cm.eval.trl.txt",
             "ASVspoof5.eval.track_1.tsv", "protocols/eval.txt"),
}  # fmt: skip


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
        missing = f", {len(self.missing):,} without audio: {_some(self.missing)}" if self.missing else ""
        return f"{name}: {_count(len(self.trials), 'trial')} ({what}){missing}"

    def identity(self) -> str:
        """sha256 over what the trials are, whatever their order and wherever they lie; the checkpoint keeps it."""
        key = {True: "bonafide", False: "spoof", None: "-"}
        lines = sorted(f"{trial.utterance} {key[trial.bonafide]} {trial.attack}\n" for trial in self.trials)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def open_corpus(
    root: str | os.PathLike[str],
    partition: str,
    protocol: str | os.PathLike[str] | None = None,
    subsets: Collection[str] = ("eval",),
) -> Partition:
    """The `partition` (train, dev or eval) of the corpus below `root`, by its own protocol or the one given."""
    if partition not in PROTOCOLS:
        raise ShrikeError(
            f"there is no partition {partition!r}; available: {', '.join(PROTOCOLS)}{nearest(partition, PROTOCOLS)}"
        )
    if not os.path.isdir(root):
        raise ShrikeError(f"{root} is no directory; one was expected, with protocols and audio below it{nearby(root)}")
    tree = _Tree(os.path.abspath(root), PROTOCOLS[partition])
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


def select(partition: Partition, expression: str) -> Partition:
    """Only trials whose row in metadata.csv says so: "open=1", or "open=1,mp3=0" where both must hold; "" keeps all."""
    wanted: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in expression.split(","))):
        column, equals, value = (text.strip() for text in part.partition("="))
        if not (column and equals and value):
            raise ShrikeError(f"cannot select by {part!r}; write column=value, several separated by commas")
        if wanted.setdefault(column, value) != value:
            raise ShrikeError(f"cannot select by {expression!r}: {column} cannot have two values, one was expected")
    if not wanted:
        return partition
    path, columns, rows = read_metadata(partition)
    if unknown := [column for column in wanted if column not in columns]:
        raise ShrikeError(f"{path} has no column {', '.join(unknown)}; its columns: {', '.join(columns)}")

    def holds(utterance: str) -> bool:
        row = rows.get(utterance, {})
        return all(row.get(column) == value for column, value in wanted.items())

    trials = tuple(trial for trial in partition.trials if holds(trial.utterance))
    if not trials:
        values = (f"{column}: {_some(sorted({row[column] for row in rows.values()}))}" for column in wanted)
        raise ShrikeError(f"no trial of {partition.name} has {expression}; in {path} there are {'; '.join(values)}")
    missing = tuple(utterance for utterance in partition.missing if holds(utterance))
    selection = ",".join(filter(None, (partition.selection, expression.replace(" ", ""))))
    return replace(partition, trials=trials, missing=missing, selection=selection)


class _Tree:
    """One walk through everything below a directory: the sound files by utterance, the protocols, what was closed."""

    def __init__(self, root: str, protocols: tuple[str, ...]) -> None:
        self.root = root
        self.audio: dict[str, str] = {}  # utterance → path; strings, because 681,000 Paths are slow to make
        self.twins: dict[str, set[str]] = {}  # utterance → all its paths, where several are equally good
        self.protocols: list[Path] = []
        self.closed: list[str] = []  # directories that may not be read
        self.wanted = {tail.rpartition("/")[2]: f"/{tail}" for tail in protocols}
        # Directories behind links come last and every directory is entered once: loops end, and the path that is
        # remembered is the one without links.
        waiting: list[str] = [root]
        linked: list[str] = []
        entered: set[str] = set()
        while waiting or linked:
            directory = waiting.pop() if waiting else linked.pop()
            real = os.path.realpath(directory)
            if real in entered:
                continue
            entered.add(real)
            try:
                with os.scandir(directory) as entries:
                    for entry in entries:
                        if not _leads_to_directory(entry):
                            self._see(entry)
                        elif not entry.name.startswith("."):
                            (linked if entry.is_symlink() else waiting).append(entry.path)
            except OSError:
                self.closed.append(directory)

    def _see(self, entry: "os.DirEntry[str]") -> None:
        stem, _, extension = entry.name.rpartition(".")
        if extension.lower() in EXTENSIONS:
            if not entry.is_symlink() or os.path.exists(entry.path):
                self._add(stem, entry.path)
            return
        ending = self.wanted.get(entry.name.removesuffix(".gz"))
        if ending and Path(entry.path).as_posix().removesuffix(".gz").endswith(ending):
            self.protocols.append(Path(entry.path))

    def _add(self, utterance: str, path: str) -> None:
        known = self.audio.setdefault(utterance, path)
        if known is not path:
            better = _rank(path) - _rank(known)
            if better < 0:
                self.audio[utterance] = path
                self.twins.pop(utterance, None)
            elif better == 0:
                self.twins.setdefault(utterance, {known}).add(path)

    def sound(self, utterance: str) -> str | None:
        """The path of an utterance, None if there is none; some corpora write the extension into their protocols."""
        utterance = utterance if utterance in self.audio else _stem(utterance)
        if utterance in self.twins:
            places = sorted({os.path.realpath(path) for path in self.twins[utterance]})
            if len(places) > 1:
                raise ShrikeError(
                    f"{utterance} is there several times: {_some(places)}; point --corpus at the one that is meant"
                )
        return self.audio.get(utterance)


def _choose(tree: _Tree, partition: str) -> tuple[Path, list[Trial]]:
    """The one protocol below the root that fits: it has audio there, and labels if any of those has."""
    if not tree.protocols:
        raise ShrikeError(
            f"no {partition} protocol below {tree.root}; looked for {', '.join(PROTOCOLS[partition])} (also .gz); "
            "give the protocol itself if it has another name"
        )
    listed = {path: read_protocol(path) for path in sorted(tree.protocols)}
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


def _no_audio(tree: _Tree, protocol: Path, trials: list[Trial]) -> ShrikeError:
    closed = f"; may not look into {_some(tree.closed)}" if tree.closed else ""
    return ShrikeError(
        f"none of the {len(trials):,} utterances of {protocol} has audio below {tree.root}: "
        f"{trials[0].utterance}.{', .'.join(EXTENSIONS)} was expected among {len(tree.audio):,} audio files{closed}"
    )


def find_metadata(partition: Partition) -> Path | None:
    """metadata.csv at the corpus' root, or between there and the protocol."""
    places = [partition.root, *reversed([p for p in partition.protocol.parents if partition.root in p.parents])]
    return next((place / "metadata.csv" for place in places if (place / "metadata.csv").is_file()), None)


def read_metadata(partition: Partition) -> tuple[Path, list[str], dict[str, dict[str, str]]]:
    """metadata.csv: where it lies, its columns, its rows by utterance."""
    path = find_metadata(partition)
    if path is None:
        raise ShrikeError(f"this needs metadata.csv, and there is none at {partition.root}")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), list(reader.fieldnames or ())
    except (OSError, ValueError, csv.Error) as error:
        raise ShrikeError(f"{path} cannot be read: {error}") from error
    name = next((column for column in ("utt", "utterance", "file") if column in columns), None)
    if name is None:
        known = ", ".join(columns) or "none"
        raise ShrikeError(f"{path} needs a column utt, utterance or file to name the utterances; its columns: {known}")
    return path, columns, {_stem(os.path.basename(row[name])): row for row in rows}


def _leads_to_directory(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _rank(path: str) -> int:
    return EXTENSIONS.index(path.rpartition(".")[2].lower())


def _stem(name: str) -> str:
    """The name without the extension of a sound file."""
    stem, _, extension = name.rpartition(".")
    return stem if extension.lower() in EXTENSIONS else name


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _some(names: Iterable[str]) -> str:
    """The first few of many names."""
    names = list(names)
    return ", ".join(names[:NAMES_SHOWN]) + (", …" if len(names) > NAMES_SHOWN else "")
