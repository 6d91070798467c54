"""Fine-tuning trains the very graph that ships."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from export import graph
from export.int8.calibration import CalibrationClips, find_ranges
from export.int8.qat import GraphNetwork, fine_tune, round_activation, round_weight
from export.int8.quantize import plan, quantise, tensors
from export.int8.scales import Ranges, weight_scales
from export.model_graph import trace
from export.options import Int8Options
from export.strip import strip
from tests.export.conftest import Window, make_checkpoint
from tests.export.small import logits_of, windowed
from train.data.cache import build_cache
from train.data.corpus import open_corpus


@pytest.mark.parametrize(
    "name, loss",
    [("ecanet9", "asoftmax"), ("senet9", "asoftmax"), ("mpif50", "asoftmax"), ("ecanet9", "ocsoftmax")],
)
def test_the_graph_in_torch_is_the_graph_in_onnx_runtime(name: str, loss: str, speech: list[Window]) -> None:
    checkpoint = make_checkpoint(name, 0.125 if name == "mpif50" else 0.25, level="window-mean", loss=loss)
    speech = speech[::4]
    model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
    layers = plan(model)
    ranges = find_ranges(windowed(model), tensors(layers), speech, "min-max")
    together = torch.from_numpy(np.concatenate(speech))
    with torch.no_grad():
        plain = GraphNetwork(model)(together).numpy()
        rounded = GraphNetwork(model, layers, ranges)(together).numpy()
    expected = logits_of(model, speech)
    size = max(1.0, float(np.abs(expected).max()))
    assert np.abs(plain - expected).max() < 1e-4 * size
    shipped = logits_of(quantise(model, layers, ranges, "int8"), speech)
    # Nothing is a tie; but here biases are floats, as they are while training, and there they are integers.
    assert np.abs(shipped - rounded).max() < (0.05 if name == "mpif50" else 0.01) * size  # 16 gates pass it on


def test_what_was_not_trained_is_written_back_as_it_came() -> None:
    checkpoint = make_checkpoint()
    model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
    layers = plan(model)
    ranges = dict.fromkeys(tensors(layers), 3.0)
    network = GraphNetwork(model, layers, ranges)
    assert network.write_to(model) == model
    assert network.ranges() == pytest.approx(ranges, rel=1e-6)


def test_gradients_pass_the_rounding() -> None:
    x = torch.linspace(-2.0, 2.0, 101, requires_grad=True)
    log_scale = torch.tensor(np.log(1 / 127), dtype=torch.float32, requires_grad=True)
    round_activation(x, log_scale, log_scale.detach().exp()).sum().backward()
    assert x.grad is not None and log_scale.grad is not None
    inside = (x.detach().abs() < 0.99).numpy()
    assert np.allclose(x.grad.numpy()[inside], 1.0) and not x.grad.numpy()[x.detach().numpy() > 1.01].any()
    assert log_scale.grad != 0
    weight = torch.randn(4, 3, 3, 3, requires_grad=True)
    scale = torch.from_numpy(weight_scales(weight.detach().numpy()))
    rounded = round_weight(weight, scale)
    rounded.sum().backward()
    assert weight.grad is not None and bool((weight.grad == 1.0).all())
    steps = rounded.detach() / scale.view(-1, 1, 1, 1)
    assert torch.allclose(steps, steps.round(), atol=1e-3) and float(steps.abs().max()) <= 127.01


def test_a_network_that_int8_hurts_comes_nearer_to_its_float_self(corpus_root: Path, tmp_path: Path) -> None:
    checkpoint = make_checkpoint()
    optimiser = replace(checkpoint.settings.optimiser, batch=8)
    checkpoint = replace(checkpoint, settings=replace(checkpoint.settings, optimiser=optimiser))
    model = trace(strip(checkpoint), checkpoint.settings.frontend).graph
    layers = plan(model)
    train = open_corpus(corpus_root, "train")
    few = replace(train, trials=train.trials[:8] + train.trials[-8:])
    windows = list(CalibrationClips(build_cache(checkpoint.settings.frontend, few.trials, tmp_path, processes=1)))
    ranges = find_ranges(windowed(model), tensors(layers), windows[::3], "percentile", 95.0)  # clips far too much

    def lost(tuned: onnx.ModelProto, scales: Ranges) -> float:
        clean, rounded = (
            logits_of(model, windows),
            logits_of(quantise(tuned, layers, scales, "uint8"), windows),
        )
        return float(np.sqrt(np.mean((rounded - clean) ** 2)))

    before = lost(model, ranges)
    tuned, scales = fine_tune(model, layers, ranges, checkpoint, few, tmp_path, Int8Options(qat=2, qat_lr=1e-4))
    assert lost(tuned, scales) < 0.7 * before
    heads = [graph.weights_of(each)["head.weight"] for each in (model, tuned)]
    assert np.array_equal(*heads)  # the classifier's angles stay
