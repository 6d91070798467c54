"""Checkpoints: a trained network with its settings, history and data. Read strictly, without running pickle code.

    checkpoint = read_checkpoint("runs/model/model.pt")
    network = checkpoint.network()                  # a train.networks.senet.StagedNetwork in eval mode

A run writes two: `model.pt`, the best epoch on dev, to deploy, and `last.pt`, with the optimiser, to resume. Neither
needs random state: all randomness of step n follows from (seed, n), see train.loop and train.data.dataset.
"""

import pickle
import platform
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runtime import __version__
from runtime.audio.features import FrontEnd
from runtime.support import codec
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.config import ARCHITECTURE, TrainConfig, differences
from train.losses.distillation import DistillationModel
from train.networks import build

if TYPE_CHECKING:
    from train.networks.senet import StagedNetwork

FORMAT = "shrike-checkpoint"
VERSION = 2  # 1 had no front-end in it: theirs was of version 1

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class RunProgress:
    """Position in a run."""

    epoch: int = 0  # complete epochs
    batch: int = 0  # complete batches of the next epoch
    step: int = 0  # optimiser steps: the learning rate and A-softmax's lambda follow from it
    sums: dict[str, float] | None = None  # sums of losses over those batches


@dataclass(frozen=True)
class Checkpoint:
    settings: TrainConfig
    weights: Weights  # of the deployed network; in last.pt of the trained one
    helpers: Weights  # modules that only distillation needs; empty for a baseline
    optimiser: dict[str, Any]  # Adam's state; empty in model.pt
    progress: RunProgress
    history: list[dict[str, Any]]  # one entry per epoch
    corpus: dict[str, str]  # partition -> hash of its trials, teacher -> hash of its file
    versions: dict[str, str]

    def network(self) -> "StagedNetwork":
        """Return the deployed network alone, in eval mode on the CPU."""
        return self.distillation_model().deployed()[0]

    def distillation_model(self) -> DistillationModel:
        """Return the network with its helpers, in eval mode, for scores of every exit."""
        model = DistillationModel(build_network(self.settings), self.settings.distillation)
        load_strictly(model.network, self.weights, "network")
        if model.helpers is not None:
            load_strictly(model.helpers, self.helpers, "helpers")
        return model.eval()


def build_network(settings: TrainConfig) -> "StagedNetwork":
    model = settings.model
    return build(
        model.network,
        model.width,
        model.dropout,
        settings.distillation.loss,
        model.gate_seconds if model.streaming else None,
        model.stem_stride,
        (model.encoder_size, model.layers, model.tuned_layers),
        settings.frontend.bands,
    )


def versions() -> dict[str, str]:
    return {"shrike": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    state = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    state |= {
        "format": FORMAT,
        "version": VERSION,
        "settings": checkpoint.settings.to_dict(),
        "frontend": asdict(checkpoint.settings.frontend),
        "progress": vars(checkpoint.progress),
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint strictly: another format or version, a missing or an extra entry is an error."""
    path = Path(path)
    state = _load(path)
    wanted = {field.name for field in fields(Checkpoint)} | {"format", "version", "frontend"}
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ShrikeError(f"{path} is not a Shrike checkpoint; python -m train writes them")
    if state.get("version") == 1:
        raise ShrikeError(f"{path} was trained on a front-end of version 1: train it again with this Shrike")
    if state.get("version") != VERSION:
        raise ShrikeError(
            f"{path} has version {state.get('version')!r}, this Shrike reads {VERSION}; use the one that wrote it"
        )
    if set(state) != wanted:
        odd = [f"{name} is missing" for name in sorted(wanted - set(state))]
        odd += [f"{name} does not belong there" for name in sorted(map(str, set(state) - wanted))]
        raise ShrikeError(f"{path} does not fit this version, use the Shrike that wrote it: {', '.join(odd)}")
    try:
        settings = TrainConfig.from_dict(state["settings"])
        progress = RunProgress(**state["progress"])
        for name in ("weights", "helpers", "optimiser", "history", "corpus"):
            if not isinstance(state[name], list if name == "history" else dict):
                raise ShrikeError(f"{name} is a {type(state[name]).__name__}")
        rest = {name: state[name] for name in ("weights", "helpers", "optimiser", "history", "corpus", "versions")}
        if codec.build(FrontEnd, state["frontend"], "front-end") != settings.frontend:
            raise ShrikeError(f"its front-end is not the {settings.data.frontend} of its settings")
        checkpoint = Checkpoint(settings=settings, progress=progress, **rest)
        checkpoint.distillation_model()  # every weight fits, none is left over
    except (ShrikeError, TypeError) as error:
        raise ShrikeError(f"{path} does not fit this version, use the Shrike that wrote it: {error}") from error
    return checkpoint


def _load(path: Path) -> Any:
    if not path.is_file():
        raise ShrikeError(
            f"{path} does not exist; a run of python -m train leaves model.pt in its --out folder{nearby(path)}"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ShrikeError(f"{path} is damaged, or contains code instead of weights; nothing in it was run") from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise ShrikeError(
            f"{path} cannot be read as a checkpoint: {str(error).partition(chr(10))[0] or 'it is empty'}"
        ) from error


def average(several: Sequence[Weights]) -> Weights:
    """Average weights of the same names and shapes; whole numbers, as batch norm's count, are those of the last."""
    last = several[-1]
    shapes = {name: value.shape for name, value in last.items()}
    if any({name: value.shape for name, value in one.items()} != shapes for one in several):
        raise ShrikeError("checkpoints with other weights cannot be averaged: their options differ")
    return {
        name: torch.stack([one[name] for one in several]).mean(0) if value.is_floating_point() else value
        for name, value in last.items()
    }


def read_initial(path: Path, settings: TrainConfig) -> Weights:
    """Return the weights that training starts from: of a model.pt with the settings' network and front-end."""
    checkpoint = read_checkpoint(path)
    odd = differences(checkpoint.settings, settings, ARCHITECTURE)
    if odd:
        raise ShrikeError(f"--init {path}: expected the options that it was trained with: {'; '.join(odd)}")
    return checkpoint.weights


def load_strictly(module: nn.Module, weights: Weights, what: str) -> None:
    """Load weights that match the module exactly: names, shapes, finite values."""
    wanted = module.state_dict()
    odd = [f"{what}.{name} is missing" for name in wanted.keys() - weights.keys()]
    odd += [f"{what}.{name} does not belong there" for name in weights.keys() - wanted.keys()]
    for name in wanted.keys() & weights.keys():
        if not isinstance(weights[name], Tensor) or weights[name].shape != wanted[name].shape:
            odd.append(f"{what}.{name} has another shape than {tuple(wanted[name].shape)}")
        elif wanted[name].is_floating_point() and not bool(torch.isfinite(weights[name]).all()):
            odd.append(f"{what}.{name} is not finite")
    if odd:
        more = f" and {len(odd) - 4} more" if len(odd) > 4 else ""
        raise ShrikeError(", ".join(sorted(odd)[:4]) + more)
    module.load_state_dict(weights)
