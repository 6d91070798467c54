"""Which model, and which engine runs it: a name of those that are embedded, or a path.

path = find_model("f0")                            # runtime/models/f0.onnx
chosen = load_model(path, "auto")                      # its .engine where one fits, else the ONNX; says which and why
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
DEFAULT = "f0"  # of the embedded ones, that with the lower EER on development trials
Kind = Literal["auto", "onnx", "tensorrt"]


@dataclass(frozen=True)
class LoadedModel:
    """An engine that is open, the card that vouches for it, and why it is this one."""

    engine: Engine
    card: ModelCard
    backend: str  # as in "ONNX Runtime"
    reason: str  # of this backend


def find_model(name: str) -> Path:
    """An embedded model's file, or the path itself."""
    if Path(name).suffix in (".onnx", ".engine"):
        return Path(name)
    embedded = MODELS / f"{name}.onnx"
    if Path(name).name == name and embedded.is_file():
        return embedded
    there = ", ".join(sorted(path.stem for path in MODELS.glob("*.onnx"))) or "none"
    raise ShrikeError(
        f"--model {name!r}: no such model; embedded are: {there}. A path to model.onnx or model.engine works as well"
        + (nearest(name, [file.stem for file in MODELS.glob("*.onnx")]) or nearby(name))
    )


def load_model(path: Path, kind: Kind, threads: int = 1, provider: str = "cpu") -> LoadedModel:
    """Open it. `auto` prefers a TensorRT engine of the same stem, and takes the ONNX where that does not run.

    A `provider` other than the CPU is ONNX Runtime's, so that it decides for the ONNX.
    """
    if not str(path).isprintable():
        raise ShrikeError(f"the model's path {str(path)!a} holds characters that cannot be printed: rename it")
    plan, graph = path.with_suffix(".engine"), path.with_suffix(".onnx")
    if provider != "cpu":
        if kind == "tensorrt":
            raise ShrikeError("--provider belongs to ONNX Runtime, --engine tensorrt runs without it: give one of them")
        return _open(graph, threads, provider, "as asked")
    if kind == "tensorrt" or (kind == "auto" and path == plan and not os.path.isfile(graph)):
        return _open(plan, threads, provider, "as asked" if kind == "tensorrt" else "there is no ONNX beside it")
    if kind == "onnx":
        return _open(graph, threads, provider, "as asked")
    if not os.path.isfile(plan):
        return _open(graph, threads, provider, f"there is no {plan.name} beside it")
    try:
        return _open(plan, threads, provider, "it fits this machine")
    except ShrikeError as error:
        reason = str(error).partition("\n")[0]  # without the table of JetPacks, which --engine tensorrt shows
        return _open(graph, threads, provider, f"{plan.name} does not run here: {reason}")


def _open(path: Path, threads: int, provider: str, why: str) -> LoadedModel:
    engine = open_engine(path, threads, provider)
    try:
        card = read_card(path)
    except BaseException:
        engine.close()
        raise
    if path.suffix == ".engine":
        return LoadedModel(engine, card, "TensorRT", why)
    if provider == "cpu":
        return LoadedModel(engine, card, "ONNX Runtime", why)
    placed = getattr(engine, "placed", None)
    share = f"{why}, it took {placed.nodes} of {placed.total} nodes" if placed else why
    return LoadedModel(engine, card, f"ONNX Runtime on {provider}", share)
