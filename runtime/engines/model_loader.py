"""Find a model by name or path, and load it with the engine that fits this machine.

path = find_model("f0")                            # runtime/models/f0.onnx
model = load_model(path, "auto")                   # its .engine where one runs, else the ONNX file
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.card.model_card import ModelCard, read_card
from runtime.engines import Engine, open_engine
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest

MODELS = Path(__file__).parents[1] / "models"
DEFAULT = "edge"  # embedded model for live sound: streaming, and small
FILE_DEFAULT = "accurate"  # embedded model for whole files: a better EER, at forty times the cost
Kind = Literal["auto", "onnx", "tensorrt"]


@dataclass(frozen=True)
class LoadedModel:
    """An open engine, its card, and the reason for this backend, empty where there is only one."""

    engine: Engine
    card: ModelCard
    backend: str  # "TensorRT", "ONNX Runtime", "ONNX Runtime on cuda"
    reason: str
    name: str  # of an embedded model, or the card's


def model_name(path: Path, card: ModelCard) -> str:
    """Return the name of an embedded model, or the card's for any other file."""
    return path.stem if path.parent == MODELS else card.name


def find_model(name: str) -> Path:
    """Return the file of an embedded model, or the path itself."""
    if Path(name).suffix in (".onnx", ".engine"):
        return Path(name)
    embedded = MODELS / f"{name}.onnx"
    if Path(name).name == name and embedded.is_file():
        return embedded
    names = sorted(path.stem for path in MODELS.glob("*.onnx"))
    raise ShrikeError(
        f"--model {name!r}: expected {', '.join(names) or 'none (no model is embedded)'}, or a path to model.onnx or "
        f"model.engine{nearest(name, names) or nearby(name)}"
    )


def load_model(path: Path, kind: Kind, threads: int = 1, provider: str = "cpu") -> LoadedModel:
    """Open the model at `path`. `auto` prefers a TensorRT engine of the same stem and falls back to the ONNX file.

    A `provider` other than the CPU belongs to ONNX Runtime and therefore selects the ONNX file.
    """
    if not str(path).isprintable():
        raise ShrikeError(f"the model's path {str(path)!a}: expected printable characters; rename it")
    plan, graph = path.with_suffix(".engine"), path.with_suffix(".onnx")
    if provider != "cpu" and kind == "tensorrt":
        raise ShrikeError("--provider selects a provider of ONNX Runtime; leave it out with --engine tensorrt")
    if provider != "cpu" or kind == "onnx":
        return _open(graph, threads, provider, "as requested")
    if kind == "tensorrt":
        return _open(plan, threads, provider, "as requested")
    if path == plan and not os.path.isfile(graph):
        return _open(plan, threads, provider, "there is no ONNX file beside it")
    if not os.path.isfile(plan):
        return _open(graph, threads, provider, "")  # the usual case on a PC
    try:
        return _open(plan, threads, provider, "it fits this machine")
    except ShrikeError as error:
        first = str(error).partition("\n")[0]  # without the table of JetPacks, which --engine tensorrt shows
        return _open(graph, threads, provider, f"{plan.name} does not run here: {first}")


def _open(path: Path, threads: int, provider: str, reason: str) -> LoadedModel:
    engine = open_engine(path, threads, provider)
    try:
        card = read_card(path)
    except BaseException:
        engine.close()
        raise
    backend = "TensorRT" if path.suffix == ".engine" else "ONNX Runtime"
    if provider != "cpu":
        backend = f"{backend} on {provider}"
        if placement := getattr(engine, "placement", ""):
            reason = f"{reason}, {placement}"
    return LoadedModel(engine, card, backend, reason, model_name(path, card))
