"""Folds of training trials, split by source: no source of a fold is in another.

    training, held_out = leave_out(partition, "3/10")       # the third of ten folds
    sources(partition)                                       # ["lyra", "LibriSpeech", ...], one per trial

A model trained without a fold has seen nothing of its sources, so its scores there are honest soft labels.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import ShrikeError
from train.config import read_fold
from train.data.corpus import Partition, read_metadata
from train.data.protocols import Trial

LEVELS = 4  # folders above a clip that may hold its metadata.csv; several corpora may lie below one root


def leave_out(partition: Partition, fold: str) -> tuple[Partition, Partition]:
    """Split a partition into the trials without a fold and those of the fold."""
    parts = read_fold(fold)
    assert parts is not None, fold
    number, count = parts
    groups = sources(partition)
    places = assign(groups, np.array([trial.bonafide is True for trial in partition.trials]), count)
    chosen = [place == number - 1 for place in places]
    inside = tuple(trial for trial, held in zip(partition.trials, chosen, strict=True) if held)
    outside = tuple(trial for trial, held in zip(partition.trials, chosen, strict=True) if not held)
    if not inside or not outside:
        raise ShrikeError(
            f"--leave-out {fold}: {partition.name} has {len(set(groups))} sources; expected more of them than folds"
        )
    names = (f"without fold {fold}", f"fold {fold}")
    rest, held_out = (
        replace(partition, trials=trials, selection=", ".join(filter(None, (partition.selection, name))))
        for trials, name in zip((outside, inside), names, strict=True)
    )
    return rest, held_out


def sources(partition: Partition) -> list[str]:
    """Return the source of every trial: by the nearest metadata.csv; else a fake's system, a real clip's speaker.

    A copy, whose metadata name a trial of the partition as its original, has the original's source: a model that saw
    copies of a source as fakes would not be fair to its real clips.
    """
    tables: dict[Path, dict[str, dict[str, str]]] = {}

    def row(trial: Trial) -> dict[str, str]:
        for folder in trial.path.parents[:LEVELS] if trial.path else ():
            if folder not in tables:
                there = (folder / "metadata.csv").is_file()
                tables[folder] = read_metadata(replace(partition, root=folder, parts=()))[2] if there else {}
            if found := tables[folder].get(trial.utterance):
                return found
        return {}

    found: dict[str, str] = {}
    originals: dict[str, str] = {}
    for trial in partition.trials:
        facts = row(trial)
        found[trial.utterance] = facts.get("source") or (f"speaker {trial.speaker}" if trial.bonafide else trial.attack)
        originals[trial.utterance] = facts.get("original_path", "")
    return [found.get(originals[name], found[name]) for name in found]


def assign(groups: list[str], bonafide: NDArray[np.bool_], count: int) -> NDArray[np.int64]:
    """Place every trial in one of `count` folds, its whole group with it; folds get equal shares of both classes.

    Greedy: the largest group goes first, each into the fold with the smallest share so far. The result depends on
    names and counts alone, not on the order of trials.
    """
    names, group = np.unique(np.array(groups), return_inverse=True)
    share = np.where(bonafide, 1 / max(1, int(bonafide.sum())), 1 / max(1, int((~bonafide).sum())))
    size = np.bincount(group, share, len(names)).round(9)
    loads, folds = np.zeros(count), np.zeros(len(names), np.int64)
    for number in sorted(range(len(names)), key=lambda n: (-size[n], names[n])):
        folds[number] = int(np.argmin(loads))
        loads[folds[number]] += size[number]
    placed: NDArray[np.int64] = folds[group]
    return placed
