"""NVIDIA's own parser and builder, of TensorRT-RTX, on a CPU: every network, form and number format for any batch.

The short form takes the encoder with its attention, alone and fused with a convolutional network; --long takes all.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from export import model_graph as steps
from export.int8 import quantize
from export.model_graph import trace
from export.strip import DeployedStream, Fused, strip
from export.tensorrt.builder import BuildOptions, build_plan
from export.tensorrt.check import check
from export.tensorrt.half import half
from export.tensorrt.layer_norm import expand_layer_norm
from tests.export.conftest import make_checkpoint
from tests.export.mock_tensorrt import VERSIONS, MockTensorRT
from train.checkpoint import Checkpoint, RunProgress, build_network
from train.config import Data, Distillation, Model, TrainConfig
from train.networks import CONVOLUTIONAL, STREAMING

RANGE = 30.0  # of every tensor: these engines are built, never run
MOST = 4  # largest batch
WIDTH = 0.125
SUFFIX = "-streaming"
ENCODERS = ("encoder", "fused")
LONG = (*CONVOLUTIONAL, *(f"{name}{SUFFIX}" for name in STREAMING))
CASES = [*ENCODERS, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx_bindings", reason="pip install '.[rtx]'", exc_type=ImportError)


def random_encoder(name: str) -> Checkpoint:
    settings = TrainConfig(
        Data(Path("none"), frontend="mel", level="window-max"),  # type: ignore[arg-type]
        Model(name, WIDTH, encoder_size="tiny", layers=2),
        Distillation("off"),
    )
    torch.manual_seed(0)
    return Checkpoint(settings, build_network(settings).state_dict(), {}, {}, RunProgress(), [], {}, {})


@lru_cache
def float_graph(name: str) -> onnx.ModelProto:
    if name in ENCODERS:
        checkpoints = [random_encoder(part) for part in (["encoder", "ecanet9"] if name == "fused" else ["encoder"])]
        networks = [strip(checkpoint) for checkpoint in checkpoints]
        network = Fused(networks) if name == "fused" else networks[0]
        return trace(network, checkpoints[0].settings.frontend, dynamic=True).graph
    streaming = name.endswith(SUFFIX)
    level = "running-mean" if streaming else "window-mean"
    checkpoint = make_checkpoint(name.removesuffix(SUFFIX), WIDTH, "off", level, streaming=streaming)
    network = strip(checkpoint)
    if isinstance(network, DeployedStream):
        return steps.trace(network, checkpoint.settings.frontend, layout="channels first").graph
    return trace(network, checkpoint.settings.frontend, dynamic=True).graph


@lru_cache
def quantised_graph(name: str) -> onnx.ModelProto:
    model = float_graph(name)
    layers = quantize.plan(model)
    return quantize.quantise(model, layers, dict.fromkeys(quantize.tensors(layers), RANGE), "int8")


@pytest.mark.parametrize("precision", ["int8", "fp16", "fp32"])
@pytest.mark.parametrize("name", CASES)
def test_nvidia_builds_it_for_any_batch(rtx: Any, name: str, precision: Any) -> None:
    model = quantised_graph(name) if precision == "int8" else float_graph(name)
    for version in ("8.5.3", "8.6.2", "10.3.0", "11.4.0"):
        check(model, f"{name}.onnx", version)
    plans = [build_plan(rtx, model, BuildOptions(precision, 1024, streams=count)) for count in (1, MOST)]
    assert all(len(plan) > 1000 for plan in plans)


# ---- the encoder's operators


def logits(model: onnx.ModelProto) -> Any:
    """Without ONNX Runtime's optimisations: 1.32's for Q/DQ in half overflow 65,504 in some convolutions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    window = np.random.default_rng(0).normal(-8, 4, (2, 1, 80, 500)).astype(np.float32)
    return session.run(["logits"], {"features": window})[0]


@pytest.mark.parametrize("name", ENCODERS)
def test_without_layer_norm_the_logits_are_the_same(name: str) -> None:
    model = float_graph(name)
    expanded = expand_layer_norm(model)
    assert "LayerNormalization" in {node.op_type for node in model.graph.node}
    assert "LayerNormalization" not in {node.op_type for node in expanded.graph.node}
    np.testing.assert_allclose(logits(expanded), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_encoder_in_half_gives_nearly_the_same_logits(name: str) -> None:
    wide = logits(float_graph(name))
    assert np.abs(logits(half(float_graph(name))) - wide).max() < 0.02 * np.abs(wide).max()


@pytest.mark.parametrize("version", VERSIONS)
def test_layer_norm_reaches_the_parser_from_8_6_on(version: str) -> None:
    trt = MockTensorRT(version)
    build_plan(trt, float_graph("encoder"), BuildOptions("fp32", 256))
    kinds = {node.op_type for node in onnx.load_from_string(trt.calls["graph"]).graph.node}
    assert ("LayerNormalization" in kinds) == (version != "8.5.3")
