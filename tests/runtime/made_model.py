"""A synthetic model with its card: no torch, no training, but its score depends on every value of the window."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.audio.features import PRESETS
from runtime.card import model_card as cards
from tests.made_card import made_card


def made_model(folder: Path, preset: str = "f0", name: str = "model", score: cards.ScoreMap | None = None) -> Path:
    """model.onnx: one strided convolution over all bands, a linear layer; random weights."""
    folder.mkdir(parents=True, exist_ok=True)
    frontend, rng = PRESETS[preset], np.random.default_rng(3)
    kernel = rng.normal(0, 0.02, (4, 1, frontend.bands, 8)).astype(np.float32)
    linear = rng.normal(0, 0.05, (4 * 75, 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["features", "kernel"], ["maps"], strides=[1, 8]),  # (1, 4, 1, 75)
            helper.make_node("Tanh", ["maps"], ["bent"]),
            helper.make_node("Flatten", ["bent"], ["flat"]),
            helper.make_node("MatMul", ["flat", "linear"], ["logits"]),
        ],
        "made",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 1, frontend.bands, frontend.width])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(linear, "linear")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"{name}.onnx"
    onnx.save(model, str(path))
    score = score or cards.ScoreMap(2.0, 0.5, -0.25, "random trials")
    made_card(path, frontend, name=f"made-{preset}", score=score)
    return path
