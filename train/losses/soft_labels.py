"""Soft labels: a log-likelihood ratio per training clip, from teachers that were trained without the clip's source.

    write_soft_labels(path, {"LA_T_1000137": -3.2, ...}, teachers)     # python -m train.teach
    labels = SoftLabels(path, cache.trials)                            # python -m train --soft-labels
    logits = labels(batch.clips)                                       # (batch, 2)

The file is JSON. A clip without an entry gets its hard label, as a ratio of LIMIT.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runtime.card.checksums import sha256_file
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from train.data.protocols import Trial

FORMAT, VERSION = "shrike-soft-labels", 1
LIMIT = 12.0  # nats, of a ratio and in place of a hard label: odds of 160,000 to 1
DIGITS = 4  # decimals of a ratio in the file


class SoftLabels:
    """Logits (spoof, bona fide) of the clips of a cache, whose difference is the ratio."""

    def __init__(self, path: Path, trials: Sequence[Trial]) -> None:
        known, self.identity = read_soft_labels(path), sha256_file(path)
        self.found = sum(trial.utterance in known for trial in trials)
        if not self.found:
            raise ShrikeError(
                f"--soft-labels {path}: has none of the {len(trials):,} training clips; use their own file"
            )
        ratios = [known.get(trial.utterance, LIMIT if trial.bonafide else -LIMIT) for trial in trials]
        half = torch.tensor(ratios).clamp(-LIMIT, LIMIT) / 2
        self.logits = torch.stack([-half, half], dim=1)  # (clips, 2)

    def __call__(self, clips: Tensor) -> Tensor:
        return self.logits[clips]


def write_soft_labels(path: Path, ratios: Mapping[str, float], teachers: Sequence[Mapping[str, Any]]) -> None:
    """Write ratios by utterance, and facts about each teacher."""
    labels = {name: round(float(ratio), DIGITS) for name, ratio in sorted(ratios.items())}
    content = {"format": FORMAT, "version": VERSION, "teachers": list(teachers), "labels": labels}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=0, allow_nan=False) + "\n", "utf-8")


def read_soft_labels(path: Path) -> dict[str, float]:
    """Read the ratios by utterance; another format, or a ratio that is not finite, is an error."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ShrikeError(
            f"--soft-labels {path}: cannot be read ({reason}); python -m train.teach writes it"
        ) from error
    version = content.get("version") if isinstance(content, dict) and content.get("format") == FORMAT else None
    labels = content.get("labels") if version == VERSION else None
    if not isinstance(labels, dict) or not labels:
        raise ShrikeError(
            f"--soft-labels {path}: expected soft labels of version {VERSION}, from python -m train.teach"
        )
    for name, ratio in labels.items():
        if type(ratio) is not float or not math.isfinite(ratio):
            raise ShrikeError(f"--soft-labels {path}: {name} has {ratio!r}; expected a finite number")
    return labels
