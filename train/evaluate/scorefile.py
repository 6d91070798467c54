"""Score files in ASVspoof's form: a trial per line, `UTTERANCE ATTACK KEY SCORE`, KEY being `bonafide` or `spoof`.

table = read_scores("eval.scores.txt")          # plain or .gz
write_scores("eval.scores.txt", table)          # read_scores gets the same digits back
"""

import dataclasses
import gzip
import math
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO, cast

import numpy as np
from numpy.typing import NDArray

from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.data.protocols import Trial
from train.evaluate.metrics import AsvScores, Bools, Floats, checked

SCORE_FORM = "UTTERANCE ATTACK KEY SCORE"
ASV_FORM = "ATTACK KEY SCORE"
LINE_SHOWN = 80  # characters of a malformed line in its error


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scored trials, four arrays (trials,)."""

    utterance: NDArray[np.str_]
    attack: NDArray[np.str_]  # `-` for bona fide by ASVspoof's convention; ignored there
    is_bonafide: Bools
    score: Floats

    def __post_init__(self) -> None:
        shapes = {field.name: np.shape(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(set(shapes.values())) != 1 or len(shapes["score"]) != 1:
            raise ShrikeError(f"columns have the shapes {shapes}; expected one entry per trial in each")
        assert self.is_bonafide.dtype == bool, "integers would index trials"

    @classmethod
    def of(cls, trials: Sequence[Trial], scores: Floats) -> "ScoreTable":
        """Combine trials with their scores."""
        return cls(
            np.array([trial.utterance for trial in trials]),
            np.array([trial.attack for trial in trials]),
            np.array([trial.bonafide is True for trial in trials], bool),
            scores,
        )

    @property
    def bonafide(self) -> Floats:
        return self.score[self.is_bonafide]

    @property
    def spoof(self) -> Floats:
        return self.score[~self.is_bonafide]

    def flipped(self) -> "ScoreTable":
        """Return the same trials with negated scores."""
        return dataclasses.replace(self, score=-self.score)


def read_scores(path: str | os.PathLike[str]) -> ScoreTable:
    """Read countermeasure scores: lines `UTTERANCE ATTACK KEY SCORE`, plain or .gz."""
    utterances, attacks, keys, scores = map(np.array, _read_columns(Path(path), SCORE_FORM, ("bonafide", "spoof")))
    name, times = Counter(utterances.tolist()).most_common(1)[0]
    if times > 1:
        raise ShrikeError(f"{path}: {name} has {times} scores; expected one; was the file appended to?")
    return ScoreTable(utterances, attacks, keys == "bonafide", scores)


def read_asv_scores(path: str | os.PathLike[str]) -> AsvScores:
    """Read the organisers' ASV scores of ASVspoof 2019: lines `ATTACK KEY SCORE`, plain or .gz."""
    attacks, keys, scores = map(np.array, _read_columns(Path(path), ASV_FORM, ("target", "nontarget", "spoof")))
    return AsvScores(
        target=scores[keys == "target"],
        nontarget=scores[keys == "nontarget"],
        spoof=scores[keys == "spoof"],
        spoof_attack=attacks[keys == "spoof"],
    )


def write_scores(path: str | os.PathLike[str], table: ScoreTable) -> None:
    """Write scores atomically and without loss of digits; a name in `.gz` is compressed."""
    path = Path(path)
    checked(table.score, "trial")
    utterances, attacks = table.utterance.tolist(), table.attack.tolist()
    for name in {*utterances, *attacks}:
        if name.split() != [name]:
            raise ShrikeError(f"{path}: expected names without spaces; rename {name!r}")
    keys = np.where(table.is_bonafide, "bonafide", "spoof").tolist()
    with atomic_file(path) as draft, _open_text(draft, "wt") as file:
        for utterance, attack, key, score in zip(utterances, attacks, keys, table.score.tolist(), strict=True):
            file.write(f"{utterance} {attack} {key} {score!r}\n")


def _open_text(path: Path, mode: Literal["rt", "wt"]) -> TextIO:
    if path.suffix == ".gz":
        return cast(TextIO, gzip.open(path, mode, encoding="utf-8"))  # typed for its binary modes as well
    return open(path, mode, encoding="utf-8")


def _read_columns(path: Path, form: str, keys: tuple[str, ...]) -> list[list[Any]]:
    """Read the columns of a file of scores: text, except the last, which is float. KEY is the last but one."""
    columns: list[list[Any]] = [[] for _ in form.split()]
    try:
        with _open_text(path, "rt") as file:
            for number, line in enumerate(file, start=1):
                fields: list[Any] = line.split()
                if len(fields) == len(columns) and fields[-2] in keys and (score := _number(fields[-1])) is not None:
                    for column, field in zip(columns, (*fields[:-1], score), strict=True):
                        column.append(field)
                elif fields:
                    wanted = f"`{form}` with KEY one of {', '.join(keys)} and a finite SCORE"
                    raise ShrikeError(f"{path}:{number}: {line.strip()[:LINE_SHOWN]!r}: expected {wanted}")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        why = f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
        raise ShrikeError(f"{why}; expected a text file of lines `{form}`, plain or .gz{nearby(path)}") from error
    if not columns[0]:
        raise ShrikeError(f"{path} is empty; expected lines `{form}`; was the scoring interrupted?")
    return columns


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
