"""model.pt: everything a trained network is. Opened without running pickle code, refused unless it fits exactly.

    checkpoint = read_checkpoint("runs/model/model.pt")
    network = checkpoint.network()                  # train.networks.senet.StagedNetwork with its weights, in eval mode

A run keeps two: `model.pt`, the best epoch on dev without the optimiser (to deploy), and `last.pt` with it (to resume).
There is no random state to keep: all randomness of step n follows from (seed, n), see train.loop and train.data.dataset.
"""

import pickle
import platform
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from runtime import __version__
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.config import TrainConfig
from train.losses.distillation import DistillationModel
from train.networks import build

if TYPE_CHECKING:
    from train.networks.senet import StagedNetwork

FORMAT = "shrike-checkpoint"
VERSION = 1

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class RunProgress:
    """How far a run has come."""

    epoch: int = 0  # complete epochs
    batch: int = 0  # batches of the next epoch that are done
    step: int = 0  # optimiser steps: the learning rate and A-softmax's lambda follow from it
    sums: dict[str, float] | None = None  # losses added up over those batches


@dataclass(frozen=True)
class Checkpoint:
    settings: TrainConfig
    weights: Weights  # the network that ships, nothing else; in last.pt the one that is trained
    helpers: Weights  # what only distillation needs; empty for a baseline
    optimiser: dict[str, Any]  # Adam's state; empty in model.pt
    progress: RunProgress
    history: list[dict[str, Any]]  # one entry an epoch
    corpus: dict[str, str]  # what it learned from: partition -> identity of its trials, a teacher's file -> its hash
    versions: dict[str, str]

    def network(self) -> "StagedNetwork":
        """The network that ships alone, in eval mode on the CPU."""
        return self.distillation_model().deployed()[0]

    def distillation_model(self) -> DistillationModel:
        """The network with its helpers, in eval mode: for scores of every exit."""
        classroom = DistillationModel(build_network(self.settings), self.settings.distillation)
        load_strictly(classroom.network, self.weights, "network")
        if classroom.helpers is not None:
            load_strictly(classroom.helpers, self.helpers, "helpers")
        return classroom.eval()


def build_network(settings: TrainConfig) -> "StagedNetwork":
    model = settings.model
    gate_seconds = model.gate_seconds if model.streaming else None
    return build(model.network, model.width, model.dropout, settings.distillation.loss, gate_seconds)


def versions() -> dict[str, str]:
    return {"shrike": __version__, "torch": str(torch.__version__), "python": platform.python_version()}


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    state = {field.name: getattr(checkpoint, field.name) for field in fields(checkpoint)}
    state |= {
        "format": FORMAT,
        "version": VERSION,
        "settings": checkpoint.settings.to_dict(),
        "progress": vars(checkpoint.progress),
    }
    with atomic_file(path) as temporary:
        torch.save(state, temporary)


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Load strictly: another format, version, a missing or an extra entry is refused by name."""
    path = Path(path)
    state = _load(path)
    wanted = {field.name for field in fields(Checkpoint)} | {"format", "version"}
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ShrikeError(f"{path} is not a Shrike checkpoint; python -m train writes them")
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
        for name, kind in (
            ("weights", dict),
            ("helpers", dict),
            ("optimiser", dict),
            ("history", list),
            ("corpus", dict),
        ):
            if not isinstance(state[name], kind):
                raise ShrikeError(f"{name} is a {type(state[name]).__name__}")
        rest = {name: state[name] for name in ("weights", "helpers", "optimiser", "history", "corpus", "versions")}
        checkpoint = Checkpoint(settings=settings, progress=progress, **rest)
        checkpoint.distillation_model()  # every weight has its place and shape, none is left over
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
        raise ShrikeError(
            f"{path} is damaged, or holds code instead of weights: refused, nothing in it was run"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile, OSError) as error:
        raise ShrikeError(
            f"{path} cannot be read as a checkpoint: {str(error).partition(chr(10))[0] or 'it is empty'}"
        ) from error


def load_strictly(module: nn.Module, weights: Weights, what: str) -> None:
    """Every weight has its place, every place its weight."""
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
