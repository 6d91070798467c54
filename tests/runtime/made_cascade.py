"""The made model in two segments: no torch, and an early exit that sees the sum of its map."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.card import read_card, write_card
from runtime.cascade import Cascade, Map, Segment, Tradeoff
from runtime.hashes import sha256_file
from tests.runtime.made_model import made_model

MAP = [1, 4, 1, 75]
DEV = Tradeoff("trials by chance", 0.01, 0.0, 0.01, 80.0, 0.0, 80.0, 0.3, 0.3, (0.4, 0.6))
SCALE, OFFSET = 0.5, -0.1  # of the early exit


def made_cascade(folder: Path, low: float | None = None, high: float | None = None) -> Path:
    """model.onnx as made_model leaves it, model-2.onnx and model-4.onnx, and one card."""
    path = made_model(folder)
    whole = onnx.load(str(path)).graph
    weights = {item.name: item for item in whole.initializer}
    early = np.random.default_rng(5).normal(0, 0.05, (300, 2)).astype(np.float32)
    nodes = {node.output[0]: node for node in whole.node}
    tensors = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("maps", MAP), ("logits2", [1, 2]), ("logits", [1, 2]))
    }
    first = helper.make_graph(
        [
            nodes["maps"],
            helper.make_node("Flatten", ["maps"], ["flat2"]),
            helper.make_node("MatMul", ["flat2", "early"], ["logits2"]),
        ],
        "first",
        whole.input,
        [tensors["logits2"], tensors["maps"]],
        [weights["kernel"], numpy_helper.from_array(early, "early")],
    )
    second = helper.make_graph(
        [nodes["bent"], nodes["flat"], nodes["logits"]],
        "second",
        [tensors["maps"]],
        [tensors["logits"]],
        [weights["linear"]],
    )
    for name, graph in (("model-2.onnx", first), ("model-4.onnx", second)):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(model, str(folder / name))
    card = read_card(path)
    passed = Map("maps", tuple(MAP), "float32")
    segments = (
        Segment("model-2.onnx", 2, "logits2", passed, 40, SCALE, OFFSET, low, high),
        Segment("model-4.onnx", 4, "logits", None, 100, card.score.scale, card.score.offset, None, None),
    )
    files = {name: sha256_file(folder / name) for name in ("model.onnx", "model-2.onnx", "model-4.onnx")}
    write_card(path, replace(card, cascade=Cascade(segments, DEV), files=files))
    return path
