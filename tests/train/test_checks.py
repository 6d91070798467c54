"""Failures in training give advice, and no finished work is lost."""

import errno
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from runtime.audio.features import PRESETS
from runtime.support.errors import ShrikeError
from train.checkpoint import read_checkpoint
from train.config import Data, Model, Optimiser, Run, TrainConfig
from train.data.cache import build_cache
from train.data.corpus import open_corpus
from train.data.dataset import Windows
from train.device import ComputeDevice, select_device
from train.loop import Trainer


@pytest.fixture
def trainer(made_corpus: Path, made_cache: Path, tmp_path: Path) -> Trainer:
    settings = TrainConfig(
        Data(corpus=made_corpus), Model("senet9", width=0.1), optimiser=Optimiser(epochs=2, batch=6),
        run=Run(out=tmp_path / "run", threads=1),
    )  # fmt: skip
    train, dev = (
        build_cache(PRESETS["f0"], open_corpus(made_corpus, name).trials, made_cache, 1) for name in ("train", "dev")
    )
    compute, hashes = ComputeDevice(torch.device("cpu"), False), {"train": "a", "dev": "b"}
    made = Trainer(settings, compute, Windows(train), dev, hashes)
    made.history.write = False  # no curves and no TensorBoard
    return made


def test_narrow_networks_on_wide_features_do_not_crash_the_process() -> None:
    """Some CPUs' convolutions write out of bounds; in a process of its own, since that one would end."""
    script = """
import torch
from pathlib import Path
from train.config import Data, Model, Run, TrainConfig
from train.networks import build
from train.device import select_device
for width in (0.25, 0.5):
    settings = TrainConfig(Data(Path("none"), frontend="wide"), Model("ecanet9", width), run=Run(threads=1))
    compute = select_device(settings)
    network = build("ecanet9", width).to(memory_format=compute.layout)
    for _ in range(2):
        network(torch.randn(16, 1, 60, 600).contiguous(memory_format=compute.layout)).square().mean().backward()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_loss_that_is_not_a_number_stops_before_it_is_saved(trainer: Trainer) -> None:
    real, steps = trainer.step, []

    def poisoned(batch, step, total):  # type: ignore[no-untyped-def]
        steps.append(step)
        losses = real(batch, step, total)
        return {**losses, "total": losses["total"] * float("nan")} if step >= 5 else losses

    trainer.step = poisoned  # type: ignore[method-assign]
    with pytest.raises(ShrikeError, match="--lr"):
        trainer.run()
    last = read_checkpoint(trainer.settings.run.out / "last.pt")
    assert last.progress.epoch == 1 and all(torch.isfinite(w).all() for w in last.weights.values())


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
def test_out_of_memory_names_a_smaller_batch(trainer: Trainer, error: Exception) -> None:
    def fails(*_: object) -> None:
        raise error

    trainer.step = fails  # type: ignore[assignment, method-assign]
    with pytest.raises(ShrikeError, match="--batch 3"):
        trainer.run()


def test_other_errors_keep_their_traceback(trainer: Trainer) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("a bug of ours")

    trainer.step = fails  # type: ignore[assignment, method-assign]
    with pytest.raises(RuntimeError, match="a bug of ours"):
        trainer.run()


def test_a_full_disk_leaves_the_last_checkpoint(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer._epoch()
    last = trainer.settings.run.out / "last.pt"
    before = last.read_bytes()

    def full(state: object, file: Path) -> None:
        Path(file).write_bytes(b"some")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ShrikeError):
        trainer._epoch()
    assert last.read_bytes() == before and not list(last.parent.glob(".*"))


def test_one_class_alone_and_missing_labels_are_refused(
    made_corpus: Path, made_cache: Path, tmp_path: Path, trainer: Trainer
) -> None:
    trials = open_corpus(made_corpus, "train").trials
    whole = build_cache(PRESETS["f0"], trials, made_cache, 1)
    fakes = build_cache(PRESETS["f0"], [trial for trial in trials if not trial.bonafide], made_cache, 1)
    with pytest.raises(ShrikeError, match="0 bona fide"):
        Trainer(trainer.settings, trainer.compute, Windows(fakes), whole, {})
    unlabelled = build_cache(PRESETS["f0"], [replace(trials[0], bonafide=None), *trials[1:]], made_cache, 1)
    with pytest.raises(ShrikeError):
        Trainer(trainer.settings, trainer.compute, Windows(unlabelled), whole, {})


@pytest.mark.parametrize(("wanted", "chosen"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_a_gpu_is_chosen_by_its_number(
    trainer: Trainer, wanted: str, chosen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mock: a machine with two GPUs; torch.cuda.set_device itself refuses a device without a number."""
    seen = list[int]()

    def current(device: torch.device) -> None:
        seen.append(torch.cuda._utils._get_device_index(device))

    for name, value in {"is_available": lambda: True, "device_count": lambda: 2, "set_device": current}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    compute = select_device(replace(trainer.settings, run=replace(trainer.settings.run, device=wanted)))
    assert compute.device == torch.device("cuda", chosen) and seen == [chosen] and compute.bf16


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "mps"])
def test_a_device_that_is_not_there_is_refused(trainer: Trainer, device: str) -> None:
    with pytest.raises(ShrikeError, match="--device"):
        select_device(replace(trainer.settings, run=replace(trainer.settings.run, device=device)))
