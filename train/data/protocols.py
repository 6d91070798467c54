"""Read protocols in the formats of ASVspoof 2019, 2021 and 5.

    trials = read_protocol("ASVspoof2019.LA.cm.train.trn.txt")      # .gz too
    trials[0].utterance, trials[0].bonafide, trials[0].attack       # 'LA_T_1138215', True, '-'

    2019          LA_0079 LA_T_1138215 - A05 spoof
    2021 LA, DF   LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval
    2021 PA       PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval
    5             E_1607 E_0009538969 M C05 2 E_0009486171 AC1 A26 spoof -

The number of columns and the position of the key identify a format; all lines must have the first line's. Bona fide
trials get the attack "-" whatever their column contains ("bonafide" in 2021 LA and in 5).
"""

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

KEYS = {"bonafide": True, "spoof": False}
SPEAKER_VERIFICATION = frozenset({"target", "nontarget"})  # keys of the ASV protocols beside the CM ones
UNKNOWN_ATTACK = "unknown"  # of a spoof without an attack in its protocol ("-" means bona fide)
LINE_SHOWN = 80  # characters of a wrong line in a message


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of a protocol."""

    utterance: str
    speaker: str
    attack: str  # "-" for bona fide
    bonafide: bool | None  # None: unlabelled
    path: Path | None  # None: no audio was found, or not searched for
    condition: str = "-"  # codec (2021 LA and DF, 5) or environment (PA)
    subset: str = ""  # 2021: progress, eval or hidden


class Form:
    """One format of protocols, given by the names of its columns; "..." stands for further, unused columns."""

    # Several columns are joined: 2021 PA's attack is device and distance, as in 2019 PA.
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
        """Convert a line that fits; `share` interns the strings of speakers, attacks and codecs."""
        if self.key is None or self.speaker is None:
            return Trial(fields[self.utterance], "-", "-", None, None)
        bonafide = KEYS[fields[self.key]]
        attack = "-" if bonafide else self._joined(self.attack, fields)
        if not bonafide and not attack.strip("-"):
            attack = UNKNOWN_ATTACK
        speaker, condition = fields[self.speaker], self._joined(self.condition, fields)
        subset = "" if self.subset is None else fields[self.subset]
        intern = share.setdefault
        return Trial(
            fields[self.utterance],
            intern(speaker, speaker),
            intern(attack, attack),
            bonafide,
            None,
            intern(condition, condition),
            intern(subset, subset),
        )

    @staticmethod
    def _joined(places: list[int], fields: list[str]) -> str:
        return fields[places[0]] if len(places) == 1 else "-".join([fields[place] for place in places])


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


def read_protocol(path: str | os.PathLike[str]) -> list[Trial]:
    """Read the trials of a protocol in any of FORMS, without audio paths."""
    trials: dict[str, Trial] = {}
    lines: list[int] = []
    share: dict[str, str] = {}
    form: Form | None = None
    for number, line in _lines(path):
        fields = line.split()
        if not fields:
            continue
        form = form or next((known for known in FORMS if known.fits(fields)), None)
        if form is None or not form.fits(fields):
            raise ShrikeError(f"{path}, line {number}: {_misfit(fields, form)}")
        trial = form.trial(fields, share)
        if trial.utterance in trials:
            first = lines[list(trials).index(trial.utterance)]
            raise ShrikeError(f"{path}: {trial.utterance} is in line {first} and in line {number}; remove one")
        trials[trial.utterance] = trial
        lines.append(number)
    if not trials:
        raise ShrikeError(f"{path} is empty; expected a protocol with a line per trial")
    return list(trials.values())


def _lines(path: str | os.PathLike[str]) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a text file, compressed or not."""
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"  # gzip's magic number, whatever the file's name
        with gzip.open(path, "rt", encoding="utf-8-sig") if packed else open(path, encoding="utf-8-sig") as text:
            yield from enumerate(text, 1)
    except FileNotFoundError:
        raise ShrikeError(f"{path} does not exist; expected a protocol{nearby(path)}") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ShrikeError(f"{path} cannot be read as a protocol: {reason}") from error


def _misfit(fields: list[str], form: Form | None) -> str:
    """Explain why a line does not fit the format, or any format."""
    line = " ".join(fields)
    shown = repr(line if len(line) <= LINE_SHOWN else line[:LINE_SHOWN] + "…")
    if SPEAKER_VERIFICATION.intersection(fields):
        return f"{shown} is from a speaker-verification protocol (ASV); use the countermeasure protocol (CM)"
    if form is not None:
        return f"{shown} does not have the format of the lines before it, {form.name}: {form.columns}"
    known = "; ".join(f"{known.name}: {known.columns}" for known in FORMS)
    return f"{shown} has no known format; expected {known}; KEY is {' or '.join(KEYS)}"
