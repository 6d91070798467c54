"""Small exported networks for tests: random weights, ranges from random windows, and so no accuracy at all."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from export.int8 import calibration, quantize
from export.model_graph import ModelGraph, last_logits, trace
from export.strip import strip
from runtime.audio.features import PRESETS
from runtime.card import model_card as cards
from tests.made_card import made_card
from train.checkpoint import Checkpoint, RunProgress
from train.config import Data, Distillation, Model, TrainConfig
from train.networks import build

SHAPE = (1, 1, 45, 600)


def windows(count: int, seed: int = 0) -> Iterator[NDArray[np.float32]]:
    """Windows (1, 1, 45, 600) in log power's range."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield rng.normal(-8, 4, SHAPE).astype(np.float32)


@lru_cache
def float_graph(
    name: str, width: float = 0.25, level: str = "none", dynamic: bool = False, loss: str = "asoftmax"
) -> onnx.ModelProto:
    """The graph of a network as export.onnx writes it with --precision fp32."""
    torch.manual_seed(0)
    distillation = Distillation("off", loss=loss)  # type: ignore[arg-type]
    settings = TrainConfig(Data(Path("none"), level=level), Model(name, width), distillation)  # type: ignore[arg-type]
    network = build(name, width, loss=loss)
    checkpoint = Checkpoint(settings, network.state_dict(), {}, {}, RunProgress(), [], {}, {})
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads that wait for each other on a busy machine are slower than one
    try:
        return trace(strip(checkpoint), PRESETS["f0"], dynamic).graph
    finally:
        torch.set_num_threads(threads)


def windowed(graph: onnx.ModelProto) -> ModelGraph:
    """A windowed model of any graph: its step is a window."""
    return ModelGraph(graph, graph.graph.input[0].type.tensor_type.shape.dim[3].dim_value)


def logits_of(graph: onnx.ModelProto, windows: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Logits (windows, 2) of a windowed model's graph."""
    return last_logits(windowed(graph), windows)


@lru_cache
def quantised_graph(
    name: str, kind: quantize.Kind = "int8", width: float = 0.25, level: str = "none", loss: str = "asoftmax"
) -> onnx.ModelProto:
    model = float_graph(name, width, level, loss=loss)
    layers = quantize.plan(model)
    ranges = calibration.find_ranges(windowed(model), quantize.tensors(layers), list(windows(2)), "min-max")
    return quantize.quantise(model, layers, ranges, kind)


def exported(folder: Path, model: onnx.ModelProto, name: str = "model", level: str = "none") -> Path:
    """model.onnx with its card, as an export leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    quantised = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or cards.ANY_BATCH
    made_card(
        path,
        PRESETS["f0"].with_level(level),  # type: ignore[arg-type]
        name="ecanet9-x0.25",
        network=cards.Network("ecanet9", 0.25, 4),
        input=cards.TensorSpec("features", (batch, *SHAPE[1:])),
        output=cards.TensorSpec("logits", (batch, 2)),
        precision="int8" if quantised else "fp32",
        target="tensorrt" if quantised else "any",
        quantisation=cards.Quantisation("ptq", "int8", {}) if quantised else None,
    )
    return path
