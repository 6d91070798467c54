"""ASVspoof protocols to trials: what there is to train on, what it is called, and where its sound lies.

    partition = open_corpus("/data/LA", "train")        # 2019 LA and PA, 2021, 5, or protocols/train.txt
    print(partition.describe())                         # train: 25,380 trials (2,580 bona fide, 22,800 spoof, 6 attacks)
    partition = select(partition, "open=1,mp3=0")       # by the columns of metadata.csv

A protocol's form is known by its columns, its place by the official names. Sound is found by one walk through the
directories, whatever their layout: it is the file whose name without extension is the utterance. Trials without sound
are counted and named, never silently dropped. Of 2021's subsets only `eval` counts, as in the official scoring.
"""

import csv
import gzip
import hashlib
import os
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtime.errors import ShrikeError

KEYS = {"bonafide": True, "spoof": False}
SPEAKER_VERIFICATION = frozenset({"target", "nontarget"})  # keys of the ASV protocols that lie beside the CM ones
EXTENSIONS = ("flac", "wav", "ogg", "mp3")  # the best first: it wins where an utterance has several
UNKNOWN_ATTACK = "unknown"  # spoof, by a protocol that does not say what made it ("-" would mean bona fide)
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


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of a protocol."""

    utterance: str
    speaker: str
    attack: str  # "-" for bona fide
    bonafide: bool | None  # None: unlabelled
    path: Path | None  # None: no sound was found, or not looked for
    condition: str = "-"  # codec (2021 LA and DF, 5) or environment (PA)
    subset: str = ""  # 2021: progress, eval or hidden


class Form:
    """One way to write a protocol, given by the names of its columns; "..." is for columns that nobody needs."""

    # What several columns say together is joined: 2021 PA's attack is device and distance, as 2019 PA's is.
    ATTACK = frozenset({"ATTACK", "REPLAY_DEVICE", "TALKER_DISTANCE"})
    CONDITION = frozenset({"ENVIRONMENT", "CODEC", "ROOM", "MICROPHONE", "DISTANCE"})

    def __init__(self, name: str, columns: str) -> None:
        self.name, self.columns = name, columns
        names = columns.removesuffix(" ...").split()
        self.widths = range(len(names), 99 if columns.endswith("...") else len(names) + 1)
        self.utterance = names.index("UTTERANCE")
        self.speaker, self.key, self.subset = (
            names.index(column) if column in names else None for column in ("SPEAKER", "KEY", "SUBSET")
        )
        self.attack = [place for place, column in enumerate(names) if column in self.ATTACK]
        self.condition = [place for place, column in enumerate(names) if column in self.CONDITION]

    def fits(self, fields: list[str]) -> bool:
        return len(fields) in self.widths and (self.key is None or fields[self.key] in KEYS)

    def trial(self, fields: list[str], share: dict[str, str]) -> Trial:
        """The trial of a line that fits; `share` keeps one string of each speaker, attack and codec for all lines."""
        if self.key is None or self.speaker is None:
            return Trial(fields[self.utterance], "-", "-", None, None)
        bonafide = KEYS[fields[self.key]]
        attack = "-" if bonafide else "-".join([fields[place] for place in self.attack])
        if not bonafide and not attack.strip("-"):
            attack = UNKNOWN_ATTACK
        condition = "-".join([fields[place] for place in self.condition])
        subset = "" if self.subset is None else fields[self.subset]
        speaker, attack, condition, subset = (
            share.setdefault(text, text) for text in (fields[self.speaker], attack, condition, subset)
        )
        return Trial(fields[self.utterance], speaker, attack, bonafide, None, condition, subset)


# From the READMEs of the releases, 2021's eval-package (config.py) and the reader of 5's official baseline.
FORMS = (
    Form("ASVspoof 2019", "SPEAKER UTTERANCE ENVIRONMENT ATTACK KEY"),
    Form("ASVspoof 2021 PA", "SPEAKER UTTERANCE ROOM MICROPHONE DISTANCE ATTACKER_ROOM ATTACKER_MICROPHONE"
         " REPLAY_DEVICE TALKER_DISTANCE KEY TRIM SUBSET"),
    Form("ASVspoof 2021 LA and DF", "SPEAKER UTTERANCE CODEC SOURCE ATTACK KEY TRIM SUBSET ..."),
    Form("ASVspoof 5", "SPEAKER UTTERANCE GENDER CODEC CODEC_Q CODEC_SEED ATTACK_TAG ATTACK KEY TMP"),
    Form("ASVspoof 5, challenge release", "SPEAKER UTTERANCE GENDER CODEC ATTACK KEY"),
    Form("names without labels", "UTTERANCE"),
)  # fmt: skip


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


def read_protocol(path: str | os.PathLike[str]) -> list[Trial]:
    """The trials of a protocol in any of FORMS, without their sound."""
    trials: list[Trial] = []
    share: dict[str, str] = {}
    form: Form | None = None
    for number, line in _lines(path):
        fields = line.split()
        if not fields:
            continue
        form = form or next((known for known in FORMS if known.fits(fields)), None)
        if form is None or not form.fits(fields):
            raise ShrikeError(f"{path}, line {number}: {_misfit(fields, form)}")
        trials.append(form.trial(fields, share))
    if not trials:
        raise ShrikeError(f"{path} is an empty protocol")
    if len({trial.utterance for trial in trials}) < len(trials):
        seen: dict[str, int] = {}
        utterances = ((number, line.split()) for number, line in _lines(path) if line.strip())
        for number, fields in utterances:
            utterance = fields[form.utterance] if form else ""
            if utterance in seen:
                raise ShrikeError(f"{path} has {utterance} twice, in line {seen[utterance]} and in line {number}")
            seen[utterance] = number
    return trials


def open_corpus(
    root: str | os.PathLike[str],
    partition: str,
    protocol: str | os.PathLike[str] | None = None,
    subsets: Collection[str] = ("eval",),
) -> Partition:
    """The `partition` (train, dev or eval) of the corpus below `root`, by its own protocol or the one given."""
    if partition not in PROTOCOLS:
        raise ShrikeError(f"there is no partition {partition!r}; available: {', '.join(PROTOCOLS)}")
    if not os.path.isdir(root):
        raise ShrikeError(f"{root} is no directory; a corpus is one, with its protocols and its audio below it")
    tree = _Tree(os.path.abspath(root), PROTOCOLS[partition])
    if protocol is None:
        path, listed = _choose(tree, partition)
    else:
        path = Path(protocol)
        listed = read_protocol(path)
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
            raise ShrikeError(f"cannot select by {expression!r}: {column} cannot have two values")
    if not wanted:
        return partition
    path, rows = _metadata(partition)
    columns = next(iter(rows.values()), {})
    if unknown := [column for column in wanted if column not in columns]:
        raise ShrikeError(f"{path} has no column {', '.join(unknown)}; its columns: {', '.join(columns)}")

    def holds(utterance: str) -> bool:
        row = rows.get(utterance, {})
        return all(row.get(column) == value for column, value in wanted.items())

    trials = tuple(trial for trial in partition.trials if holds(trial.utterance))
    if not trials:
        values = (f"{column}: {_some(sorted({row[column] for row in rows.values()}))}" for column in wanted)
        raise ShrikeError(f"no trial of {partition.name} has {expression}; {path} has {'; '.join(values)}")
    missing = tuple(utterance for utterance in partition.missing if holds(utterance))
    selection = ",".join(filter(None, (partition.selection, expression.replace(" ", ""))))
    return replace(partition, trials=trials, missing=missing, selection=selection)
