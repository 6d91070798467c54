"""The shipped network gives the training network's logits, and nothing of training is left in it."""

import numpy as np
import pytest
import torch
from torch import nn

from export import graph
from export.model_graph import trace
from export.strip import strip
from runtime.support.errors import ShrikeError
from tests.export.conftest import Window, make_checkpoint
from tests.export.small import logits_of
from train.checkpoint import Checkpoint
from train.data.level import level

TOLERANCE = 1e-5  # of a logit; relative to the largest where that is above 1, as float32 is


def near(came: torch.Tensor, expected: torch.Tensor) -> bool:
    return float((came - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("name", ["ecanet9", "senet9", "ecanet50", "seres2net50", "mpif50", "ecamobile"])
@pytest.mark.parametrize("kind", ["none", "window-mean"])
def test_logits_are_the_training_networks(name: str, kind: str, speech: list[Window]) -> None:
    checkpoint = make_checkpoint(name, level=kind)
    raw = torch.from_numpy(np.concatenate(speech[::4]))
    with torch.no_grad():
        expected = checkpoint.network()(level(raw, checkpoint.settings.frontend))
        assert near(strip(checkpoint)(raw), expected)


@pytest.mark.parametrize("loss", ["amsoftmax", "ocsoftmax", "crossentropy"])
@pytest.mark.parametrize("exit", [2, 4])
def test_every_loss_ships_the_logits_that_it_trained(exit: int, loss: str, speech: list[Window]) -> None:
    checkpoint = make_checkpoint("ecamobile", loss=loss)
    network = strip(checkpoint, exit)
    raw = torch.from_numpy(np.concatenate(speech[::4]))
    with torch.no_grad():
        logits, expected = network(raw), checkpoint.distillation_model().scores(raw)
        assert exit < 4 or near(logits, checkpoint.network()(raw))
    assert near(logits[:, 1] - logits[:, 0], expected[:, exit - 1])
    written = logits_of(trace(network, checkpoint.settings.frontend).graph, [each[None] for each in raw.numpy()])
    assert near(torch.from_numpy(written), logits)


@pytest.mark.parametrize("exit", [1, 2, 3])
def test_a_shallow_exit_scores_as_it_did_in_training(exit: int, checkpoint: Checkpoint, speech: list[Window]) -> None:
    raw = torch.from_numpy(np.concatenate(speech[:4]))
    with torch.no_grad():
        logits = strip(checkpoint, exit)(raw)
        expected = checkpoint.distillation_model().scores(raw)[:, exit - 1]
    assert near(logits[:, 1] - logits[:, 0], expected)


def test_a_factor_on_the_samples_cannot_move_a_levelled_network(speech: list[Window]) -> None:
    network = strip(make_checkpoint(level="window-mean"))
    raw = torch.from_numpy(speech[0])
    with torch.no_grad():
        assert torch.allclose(network(raw + 3.0), network(raw), atol=1e-4)


@pytest.mark.parametrize("exit", [1, 4])
def test_nothing_of_training_is_left(exit: int, checkpoint: Checkpoint) -> None:
    network = strip(checkpoint, exit)
    assert not [m for m in network.modules() if isinstance(m, nn.BatchNorm2d | nn.Dropout)]
    assert all(not parameter.requires_grad for parameter in network.parameters())
    weights = graph.weights_of(trace(network, checkpoint.settings.frontend).graph)
    helpers = [value.numpy() for name, value in checkpoint.helpers.items()]
    own = f"classifiers.{exit - 1}.weight"
    for name, weight in weights.items():
        assert not any(weight.shape == other.shape and np.array_equal(weight, other) for other in helpers), name
        assert not any(word in name for word in ("helpers", "classifier", "projection", "running", "num_batches"))
    # Every number is a convolution's, its bias, or the one classifier's: stages behind the exit are gone as well.
    left = [n for n in checkpoint.weights if n.startswith("stem") or (n.startswith("stages") and int(n[7]) < exit)]
    convolutions = [n for n in left if n.endswith("weight") and checkpoint.weights[n].ndim > 1]
    numbers = sum(checkpoint.weights[n].numel() for n in convolutions)
    biases = sum(len(checkpoint.weights[n]) for n in convolutions if "gate" not in n)
    head = checkpoint.weights["head.weight"] if exit == 4 else checkpoint.helpers[own]
    assert sum(weight.size for weight in weights.values()) == numbers + biases + head.numel() + 2
    assert np.allclose(np.linalg.norm(weights["head.weight"], axis=1), 1.0) and not weights["head.bias"].any()


def test_exits_that_are_not_there_are_refused(checkpoint: Checkpoint) -> None:
    for exit in (0, 5, -1):
        with pytest.raises(ShrikeError):
            strip(checkpoint, exit)
    with pytest.raises(ShrikeError, match="--distill off"):
        strip(make_checkpoint(distill="off"), 2)
    assert strip(make_checkpoint(distill="off"), 4)


def test_a_batch_norm_that_cannot_be_folded_is_not_shipped(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.strip.fold", lambda module: module)
    with pytest.raises(AssertionError):
        strip(checkpoint)
