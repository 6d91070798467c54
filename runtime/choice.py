"""Which model, and which engine runs it: a name of those that are embedded, or a path.

path = find_model("f0")                            # runtime/models/f0.onnx
chosen = choose(path, "auto")                      # its .engine where one fits, else the ONNX; says which and why
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.card import ModelCard, read_card
from runtime.engines import Engine, open_engine
from runtime.errors import ShrikeError

MODELS = Path(__file__).parent / "models"
DEFAULT = "f0"  # of the embedded ones, that with the lower EER on development trials
Kind = Literal["auto", "onnx", "tensorrt"]


@dataclass(frozen=True)
class Chosen:
    """An engine that is open, the card that vouches for it, and why it is this one."""

    engine: Engine
    card: ModelCard
    kind: str
    why: str


def find_model(name: str) -> Path:
    """An embedded model's file, or the path itself."""
    if Path(name).suffix in (".onnx", ".engine"):
        return Path(name)
    embedded = MODELS / f"{name}.onnx"
    if Path(name).name == name and embedded.is_file():
        return embedded
    there = ", ".join(sorted(path.stem for path in MODELS.glob("*.onnx"))) or "none"
    raise ShrikeError(
        f"--model {name}: no such model; embedded are: {there}. A path to model.onnx or model.engine works as well"
    )


def choose(path: Path, kind: Kind, threads: int = 1) -> Chosen:
    """Open it. `auto` prefers a TensorRT engine of the same stem, and takes the ONNX where that does not run."""
    plan, graph = path.with_suffix(".engine"), path.with_suffix(".onnx")
    if kind == "tensorrt" or (kind == "auto" and path == plan and not graph.is_file()):
        return _open(plan, threads, "as asked" if kind == "tensorrt" else "there is no ONNX beside it")
    if kind == "onnx":
        return _open(graph, threads, "as asked")
    if not plan.is_file():
        return _open(graph, threads, f"there is no {plan.name} beside it")
    try:
        return _open(plan, threads, "it fits this machine")
    except ShrikeError as error:
        return _open(graph, threads, f"{plan.name} does not run here: {error}")


def _open(path: Path, threads: int, why: str) -> Chosen:
    engine = open_engine(path, threads)
    try:
        card = read_card(path)
    except BaseException:
        engine.close()
        raise
    return Chosen(engine, card, "TensorRT" if path.suffix == ".engine" else "ONNX Runtime", why)
