"""Early checks in training: classes of the data, memory, a loss that is not finite."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from runtime.support.errors import ShrikeError
from train.data.cache import Cache
from train.data.sampling import Sampling


def check_classes(cache: Cache, name: str) -> None:
    """Require bona fide and spoof clips, all with labels."""
    labels = cache.labels
    if not (labels == 1).any() or not (labels == 0).any():
        raise ShrikeError(
            f"{name} has {(labels == 1).sum()} bona fide and {(labels == 0).sum()} spoof clips; both are needed"
        )
    if (labels < 0).any():
        raise ShrikeError(f"{name}: {(labels < 0).sum()} clips have no label; use a protocol with keys")


def check_pairs(sampling: Sampling, batch: int, world: int) -> None:
    """Require pairs of original and copy for every process."""
    if sampling.pairs is None:
        return
    if not len(sampling.pairs):
        raise ShrikeError(
            "--pair-loss: no training clip is a copy of another; add a folder of python -m train.vocode to --corpus"
        )
    if batch < 4 * world:
        raise ShrikeError(f"--batch {batch}: expected at least {4 * world} for --pair-loss in {world} processes")


class LossSums:
    """Sums of losses on their device; reading them waits for it."""

    def __init__(self, before: dict[str, float], count: int) -> None:
        self._before, self._count, self._sums = before, count, dict[str, Tensor]()

    def add(self, losses: dict[str, Tensor]) -> None:
        self._count += 1
        for name, loss in losses.items():
            self._sums[name] = self._sums[name] + loss.double() if name in self._sums else loss.double()

    def totals(self) -> dict[str, float]:
        names = self._before.keys() | self._sums.keys()
        return {n: self._before.get(n, 0.0) + float(self._sums.get(n, 0.0)) for n in sorted(names)}

    def means(self) -> dict[str, float]:
        return {name: total / max(1, self._count) for name, total in self.totals().items()}

    def check(self, title: str) -> float:
        """Return the mean total loss, if it is finite."""
        mean = self.means()["total"]
        if not math.isfinite(mean):
            parts = ", ".join(name for name, value in self.means().items() if not math.isfinite(value))
            raise ShrikeError(
                f"{title}: the loss is not finite ({parts}); lower --lr, raise --warmup, or use --precision fp32. "
                "The checkpoints of the last whole epoch are complete"
            )
        return mean


@contextmanager
def explain_out_of_memory(batch: int) -> Iterator[None]:
    """Turn an out-of-memory error into advice."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
            raise ShrikeError(
                f"out of memory with --batch {batch}; try --batch {max(2, batch // 2)}, --precision bf16 or a smaller "
                "--width. The checkpoints of the last whole epoch are complete"
            ) from error
        raise
