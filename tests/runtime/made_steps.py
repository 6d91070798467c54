"""Small streaming model for tests: its score depends on every state, and on the order of all frames so far.

Frames of 16 bring a mean of every band. A ring holds the newest 8 of them, a count says how many came, a running
average has non-zero initial values, and the last frame is stored as uint8, rounded around a zero point of 128.

    features (b, 1, bands, 16) --mean over time--> m (b, bands)
    ring     [r1 .. r7, m]           logits += ring . kernel
    average  0.9 average + 0.1 m     logits += average . weights
    last     round(16 m) + 128       logits += (last before - 128) . others
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.audio.features import PRESETS
from runtime.card import model_card as cards
from runtime.card.checksums import sha256_file
from runtime.card.model_card import ModelCard, read_card, write_card
from tests.runtime.made_model import made_model

FRAMES = 16
RING = 8
BATCH = "streams"


def made_steps(
    folder: Path, preset: str = "f0", name: str = "model", frames: int = FRAMES, batch: int = cards.ANY_BATCH
) -> Path:
    """model.onnx with its card."""
    path = made_model(folder, preset, name)
    graph, bands = step_graph(PRESETS[preset].bands, frames, batch), PRESETS[preset].bands
    onnx.save(graph, str(path))
    rng = np.random.default_rng(5)
    tensors = (
        cards.StateTensor("ring", "ring_after", (RING, bands), "float32", (0.0,)),
        cards.StateTensor("average", "average_after", (bands,), "float32", tuple(rng.normal(-8, 1, bands).tolist())),
        cards.StateTensor("last", "last_after", (bands,), "uint8", (128.0,)),
    )
    change(
        path,
        input=cards.TensorSpec("features", (batch, 1, bands, frames)),
        output=cards.TensorSpec("logits", (batch, 2)),
        state=cards.State(frames, tensors),
    )
    return path


def change(path: Path, **entries: Any) -> ModelCard:
    """Another card for the model as it lies there."""
    card = replace(read_card(path, verify=False), files={path.name: sha256_file(path)}, **entries)
    write_card(path, card)
    return card


def step_graph(bands: int, frames: int, batch: int) -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    many = BATCH if batch == cards.ANY_BATCH else batch
    values = {
        "kernel": rng.normal(0, 0.02, (RING * bands, 2)),
        "weights": rng.normal(0, 0.05, (bands, 2)),
        "others": rng.normal(0, 0.01, (bands, 2)),
        "decay": np.array(0.9),
        "new": np.array(0.1),
        "scale": np.array(16.0),
        "zero": np.array(128.0),
        "low": np.array(0.0),
        "high": np.array(255.0),
    }
    wholes = {"one": [1], "end": [RING + 1], "flat": [0, -1]}
    f32, u8 = TensorProto.FLOAT, TensorProto.UINT8
    node = helper.make_node
    nodes = [
        node("ReduceMean", ["features"], ["mean"], axes=[1, 3], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["row"]),
        node("Concat", ["ring", "row"], ["longer"], axis=1),
        node("Slice", ["longer", "one", "end", "one"], ["ring_after"]),
        node("Reshape", ["ring_after", "flat"], ["flattened"]),
        node("MatMul", ["flattened", "kernel"], ["by_ring"]),
        node("Mul", ["average", "decay"], ["faded"]),
        node("Mul", ["mean", "new"], ["fresh"]),
        node("Add", ["faded", "fresh"], ["average_after"]),
        node("MatMul", ["average_after", "weights"], ["by_average"]),
        node("Cast", ["last"], ["last_number"], to=f32),
        node("Sub", ["last_number", "zero"], ["last_value"]),
        node("MatMul", ["last_value", "others"], ["by_last"]),
        node("Mul", ["mean", "scale"], ["scaled"]),
        node("Add", ["scaled", "zero"], ["shifted"]),
        node("Round", ["shifted"], ["rounded"]),
        node("Clip", ["rounded", "low", "high"], ["clipped"]),
        node("Cast", ["clipped"], ["last_after"], to=u8),
        node("Sum", ["by_ring", "by_average", "by_last"], ["logits"]),
    ]
    states = [("ring", f32, [many, RING, bands]), ("average", f32, [many, bands]), ("last", u8, [many, bands])]
    graph = helper.make_graph(
        nodes,
        "steps",
        [
            helper.make_tensor_value_info("features", f32, [many, 1, bands, frames]),
            *(helper.make_tensor_value_info(*state) for state in states),
        ],
        [
            helper.make_tensor_value_info("logits", f32, [many, 2]),
            *(helper.make_tensor_value_info(f"{state}_after", kind, shape) for state, kind, shape in states),
        ],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in values.items()]
        + [numpy_helper.from_array(np.array(value, np.int64), key) for key, value in wholes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
