"""Export models for TensorRT and compute their logits on the CPU, for scripts.tensorrt_report on a machine with a GPU.

    python -m scripts.tensorrt_trials trials --corpus ../shared/corpus --models edge=train/models/edge.pt \
        accurate=runs/encoder/model.pt,runs/branch/model.pt --networks senet9 ecanet9-streaming

The folder gets NAME-int8.onnx and NAME-float.onnx with their cards, the windows of the trials for each front-end, and
the logits of ONNX Runtime for them. Log power is rounded to 1/8, which keeps the files small; both sides see the same
numbers. Networks of --networks are randomly initialised and have the front-end `wide`. A streaming model starts each
trial from its initial states. Files that exist are not written again.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from torch import nn

from export.options import GateOptions, Int8Options, ModelOptions
from export.pipeline import export_onnx
from export.verify import read_trials
from runtime.audio.features import FrontEnd
from runtime.card.model_card import ModelCard, read_card
from runtime.engines.onnx import open_onnx
from runtime.support.command import parse, run
from scripts.tensorrt_report import MANIFEST
from scripts.tensorrt_rows import UNITS, logits_path, read_windows, run_trials, trials_path
from train.checkpoint import Checkpoint, RunProgress, build_network, versions, write_checkpoint
from train.config import Data, Distillation, Model, TrainConfig
from train.progress import say

STREAMING = "-streaming"
SETTLE = 16  # windows that set the statistics of a random network's batch norms


@dataclass(frozen=True)
class Options:
    """Export models and compute their logits."""

    out: tyro.conf.Positional[Path]
    """Folder for everything; created if needed."""
    corpus: Path
    """Folder of the corpus: its training trials calibrate, its development trials are scored."""
    models: tuple[str, ...] = ()
    """NAME=model.pt, or NAME=model.pt,second.pt for two windowed models in one graph."""
    networks: tuple[str, ...] = ()
    """Networks with random weights, as in senet9 or senet9-streaming."""
    width: float = 0.5
    """Width of these networks."""
    trials: int = 200
    """How many development trials, drawn at random."""
    only: str | None = None
    """Calibrate only with trials whose row in the corpus's metadata.csv has these values."""


def main() -> None:
    options = parse(Options, "scripts.tensorrt_trials", __doc__)
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    manifest: dict[str, str] = {}
    for entry in options.models:
        name, _, files = entry.partition("=")
        manifest[name] = "trained"
        export(options, name, *map(Path, files.split(",")))
    for name in options.networks:
        manifest[name] = "random weights"
        export(options, name, random_checkpoint(options, name))
    (options.out / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    for name in manifest:
        for form in ("int8", "float"):
            score(options, options.out / f"{name}-{form}.onnx")


def export(options: Options, name: str, model: Path, fused: Path | None = None) -> None:
    """Write NAME-int8.onnx and NAME-float.onnx; engines get any batch."""
    calibration = Int8Options(options.corpus, options.only, calibration_trials=100, min_snr=10)
    verification = {"verification": options.corpus, "verification_trials": 100, "verification_windows": 1}
    gate = GateOptions(**verification, max_eer_rise=100, drift_minutes=0)  # type: ignore[arg-type]
    for form in ("int8", "float"):
        target = options.out / f"{name}-{form}"
        source = ModelOptions(model, fuse=fused, batch="dynamic", out=str(target))
        if target.with_suffix(".onnx").is_file():
            continue
        if form == "int8":
            export_onnx(source, "int8", "tensorrt", calibration, gate)
        else:
            export_onnx(source, "fp32", gate=gate)


def random_checkpoint(options: Options, name: str) -> Path:
    """Write a checkpoint with random weights, whose batch norms have statistics of the corpus."""
    path = options.out / f"{name}.pt"
    if path.is_file():
        return path
    streaming = name.endswith(STREAMING)
    level = "running-mean" if streaming else "window-mean"
    settings = TrainConfig(
        Data(options.corpus, frontend="wide", level=level),  # type: ignore[arg-type]
        Model(name.removesuffix(STREAMING), options.width, streaming=streaming),
        Distillation("off"),
    )
    torch.manual_seed(0)
    network = build_network(settings)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over everything seen
    with torch.no_grad():
        network.train()(torch.from_numpy(windows(options, settings.frontend)[:SETTLE]))
    progress = RunProgress()
    write_checkpoint(path, Checkpoint(settings, network.state_dict(), {}, {}, progress, [], {}, versions()))
    return path


def windows(options: Options, frontend: FrontEnd) -> NDArray[np.float32]:
    """Read or compute the trials' windows (n, 1, bands, frames)."""
    path = trials_path(options.out, frontend)
    if not path.is_file():
        cache = ModelOptions(Path()).cache
        gate = GateOptions(verification_trials=options.trials, verification_windows=1)
        trials = read_trials(gate, frontend, options.corpus, cache)
        values = np.concatenate([window for window, _ in trials]) * UNITS
        np.save(path, np.rint(values).astype(np.int16))
    return read_windows(options.out, frontend)


def score(options: Options, model: Path) -> None:
    """Write ONNX Runtime's logits."""
    card: ModelCard = read_card(model)
    path = logits_path(model)
    features = windows(options, card.frontend)
    if path.is_file():
        return
    say(f"{model.name}: {len(features)} trials")
    with open_onnx(model) as engine:
        np.save(path, run_trials(engine, features))


if __name__ == "__main__":
    run(main)
