"""A training run of seconds inside the test's own process, whole or stopped by a signal and resumed."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from runtime.audio.features import PRESETS
from train.checkpoint import Checkpoint, read_checkpoint
from train.config import Augmentation, Data, Distillation, Model, Optimiser, Run, TrainConfig
from train.data.cache import build_cache
from train.data.corpus import open_corpus
from train.data.dataset import Windows
from train.device import ComputeDevice
from train.loop import Trainer

EPOCHS = 2


def small_run(
    corpus: Path,
    cache: Path,
    out: Path,
    distillation: dict[str, Any] | None = None,
    streaming: bool = False,
    init: Path | None = None,
    **optimiser: Any,
) -> Trainer:
    """Two epochs of four steps on everything that is random."""
    settings = TrainConfig(
        Data(corpus, level="running-mean" if streaming else "none"),
        Model("senet9", width=0.1, dropout=0.2, streaming=streaming, init=init),
        Distillation(**(distillation or {})),
        Augmentation(gain=6.0, mask_bands=5),
        Optimiser(**{"epochs": EPOCHS, "batch": 6, **optimiser}),
        Run(out, threads=1),
    )
    train, dev = (build_cache(PRESETS["f0"], open_corpus(corpus, name).trials, cache, 1) for name in ("train", "dev"))
    compute, hashes = ComputeDevice(torch.device("cpu"), False), {"train": "a", "dev": "b"}
    trainer = Trainer(settings, compute, Windows(train), dev, hashes)
    trainer.history.write = False  # curves and TensorBoard take longer than the run; test_loop.py covers them
    return trainer


def stop_after(trainer: Trainer, steps: int) -> None:
    """Run until a signal comes in the midst of a step."""
    step = trainer.step

    def stopped(batch: Any, number: int, total: int) -> Any:
        if number + 1 == steps:
            trainer._stop(signal.SIGINT, None)
        return step(batch, number, total)

    trainer.step = stopped  # type: ignore[method-assign]
    with pytest.raises(SystemExit) as end:
        trainer.run()
    assert end.value.code == 130


def whole_and_resumed(corpus: Path, cache: Path, folder: Path, **settings: Any) -> tuple[Checkpoint, Checkpoint]:
    """last.pt of an undisturbed run, and of one that was stopped in its second epoch and resumed."""
    small_run(corpus, cache, folder / "whole", **settings).run()
    stop_after(small_run(corpus, cache, folder / "parted", **settings), steps=6)
    assert read_checkpoint(folder / "parted" / "last.pt").progress.batch == 2
    again = small_run(corpus, cache, folder / "parted", **settings)
    again.resume(folder / "parted" / "last.pt")
    again.run()
    whole, parted = (read_checkpoint(folder / name / "last.pt") for name in ("whole", "parted"))
    return whole, parted


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Weights and helpers to the last bit, and the losses of every epoch."""
    pairs = ((one.weights, other.weights), (one.helpers, other.helpers))
    equal = all(a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs)
    losses = [[entry["loss"] for entry in checkpoint.history] for checkpoint in (one, other)]
    return equal and all(a == pytest.approx(b, rel=1e-9) for a, b in zip(*losses, strict=True))
