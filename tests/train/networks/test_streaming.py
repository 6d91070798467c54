"""Streaming networks: any split of a clip gives the logits of the whole clip, and no output depends on the future."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from runtime.audio.features import PRESETS
from runtime.audio.score_times import STEP, first, scored
from runtime.support.errors import ShrikeError
from train.networks import NAMES, STREAMING, build
from train.networks.streaming import (
    BLOCK,
    CausalConvolution,
    ExponentialMean,
    RunningLevel,
    RunningMean,
    StreamingNetwork,
    initial_states,
    stateful_modules,
    stepping,
)

LIGHT = ("senet9", "ecanet9", "senet50", "ecamobile", "ecanet9/2/2", "senet9/1/2")  # every unit and gate; stem strides
TOLERANCE = 1e-5  # of a logit, relative above 1


def network(name: str, loss: str = "asoftmax", width: float = 0.125) -> StreamingNetwork:
    """With statistics, affine maps and starts as after training: fresh ones would hide what they do."""
    torch.manual_seed(0)
    name, *strides = name.split("/")
    bands, frames = map(int, strides or (1, 1))
    made = build(name, width, loss=loss, gate_seconds=0.7, stem_stride=(bands, frames))
    assert isinstance(made, StreamingNetwork)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, std=0.3)
            module.momentum = 1.0  # the next batch's statistics are all there is
        if isinstance(module, RunningMean):
            nn.init.normal_(module.start)
    made.train().embeddings(features(600, batch=4))
    return made.eval()


def features(frames: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 1, 45, frames, generator=torch.Generator().manual_seed(frames))


@torch.no_grad()
def stepped(net: StreamingNetwork, clip: Tensor, sizes: list[int]) -> Tensor:
    """Logits after every step: (steps, batch, 2)."""
    state, out = net.reset_state(len(clip), clip.shape[2]), []
    for part in clip.split(sizes, dim=3):
        logits, state = net.step(part, state)
        out.append(logits)
    return torch.stack(out)


def close(one: Tensor, other: Tensor) -> bool:
    return float((one - other).abs().max()) <= TOLERANCE * max(1.0, float(other.abs().max()))


NETWORKS = {name: network(name) for name in LIGHT}


@settings(max_examples=15, deadline=None)
@given(name=st.sampled_from(LIGHT), parts=st.lists(st.integers(1, 12), min_size=1, max_size=12))
def test_any_split_gives_what_the_whole_clip_gives(name: str, parts: list[int]) -> None:
    net = NETWORKS[name]
    sizes = [part * net.stride for part in parts]
    clip = features(sum(sizes), batch=2)
    with torch.no_grad():
        whole = net(clip)
    assert close(stepped(net, clip, sizes)[-1], whole)


@pytest.mark.parametrize(
    ("name", "loss"),
    [*((name, "asoftmax") for name in LIGHT), ("ecanet9", "ocsoftmax"), ("ecanet9", "crossentropy")],
)
def test_every_step_of_a_long_clip_with_every_kind_of_head(name: str, loss: str) -> None:
    """Beyond 600 frames the ring buffer turns; beyond BLOCK map frames the averages come in blocks."""
    net = network(name, loss)
    clip = features(1200)
    sizes = [STEP] * (clip.shape[3] // STEP)
    logits = stepped(net, clip, sizes)
    for end in (STEP, 592, 608, 1200):
        with torch.no_grad():
            assert close(logits[end // STEP - 1], net(clip[..., :end])), end


def test_five_minutes_do_not_drift() -> None:
    net = NETWORKS["ecanet9"]
    clip = features(36_000 // 96 * 96)
    small = stepped(net, clip[..., -9600:], [96] * 100)[-1]  # 78 s, far beyond the averages' 0.7 s
    assert close(stepped(net, clip, [96] * (clip.shape[3] // 96))[-1], small)


@pytest.mark.parametrize("name", LIGHT)
def test_pooling_in_training_equals_the_stream(name: str) -> None:
    net = network(name, width=0.25)
    clip = features(600, batch=3)
    ends = net.steps(600)
    assert ends[0] == first(PRESETS["f0"]) and ends[-1] == 592 and set(torch.tensor(ends).diff().tolist()) == {STEP}
    with torch.no_grad():
        pooled = net.embeddings(clip)
        rows = net.head(pooled[-1]).view(3, len(ends), 2)
    assert [tuple(x.shape) for x in pooled] == [(3 * len(ends), width) for width in net.widths]
    logits = stepped(net, clip[..., :592], [STEP] * 37)
    for row, end in enumerate(ends):
        assert close(rows[:, row], logits[end // STEP - 1])


@pytest.mark.parametrize("name", LIGHT)
def test_the_future_changes_nothing_before_it(name: str) -> None:
    net = NETWORKS[name]
    clip = features(640)
    changed = clip.clone()
    changed[..., 320:] += 10.0
    one, other = (net.stage_outputs(x, energy=True) for x in (clip, changed))
    ends = torch.tensor(net.steps(640))
    for a, b in zip(one[0], other[0], strict=True):
        assert torch.allclose(a[ends <= 320], b[ends <= 320], atol=1e-5) and not torch.allclose(a, b, atol=1e-2)
    for a, b in zip(one[1], other[1], strict=True):
        before = a.shape[2] // 2
        assert torch.allclose(a[..., :before], b[..., :before], atol=1e-4) and not torch.allclose(a, b, atol=1e-2)


@pytest.mark.parametrize("name", LIGHT)
def test_the_newest_frame_counts_at_once(name: str) -> None:
    """No latency is given away: the last frame of a step moves its score."""
    net = NETWORKS[name]
    clip = features(160)
    changed = clip.clone()
    changed[..., -1] += 10.0
    with torch.no_grad():
        assert not torch.allclose(net(clip), net(changed), atol=1e-4)


def test_streams_of_a_batch_are_strangers() -> None:
    net = NETWORKS["senet9"]
    clips = features(320, batch=3)
    together = stepped(net, clips, [STEP] * 20)
    for row in range(3):
        assert close(stepped(net, clips[row : row + 1], [STEP] * 20)[:, 0], together[:, row])


def test_the_reset_state_has_names_in_order_shapes_and_the_learned_starts() -> None:
    net = NETWORKS["senet9"]
    state = net.reset_state(2, 45)
    assert list(state) == list(stateful_modules(net)) == list(net.step(features(8, 2), state)[1])
    gates = 0
    for name, layer in stateful_modules(net).items():
        value = state[name]
        assert len(value) == 2 and value.dtype == torch.float32
        if isinstance(layer, RunningMean):
            gates += 1
            assert torch.equal(value[1].flatten(), layer.start) and value.shape[2:] == (1, 1)
        else:
            assert not value.any()
        if isinstance(layer, CausalConvolution):
            assert value.shape[3] == layer.kernel_size[1] - layer.stride[1]
    assert gates == 4 and state["newest"].shape == (2, 3, 75)
    assert all(layer.state is None and layer.next_state is None for layer in stateful_modules(net).values())


def test_nothing_is_left_behind_by_a_step_that_fails() -> None:
    net = NETWORKS["senet9"]
    state = net.reset_state(1, 45)
    with pytest.raises(RuntimeError):
        net.step(torch.zeros(1, 1, 44, 16), state)
    assert all(layer.state is None for layer in stateful_modules(net).values())
    with pytest.raises(AssertionError, match="8"):
        net.step(torch.zeros(1, 1, 45, 12), state)


@given(frames=st.integers(1, 3 * BLOCK), seconds=st.floats(1.0, 500.0))
@settings(max_examples=15, deadline=None)
def test_an_average_is_the_recursion(frames: int, seconds: float) -> None:
    layer = ExponentialMean(seconds)
    layer.state = torch.full((1, 2, 1), 3.0)
    values = torch.randn(1, 2, frames, generator=torch.Generator().manual_seed(frames))
    average, expected = layer.average(values), torch.full((1, 2), 3.0, dtype=torch.float64)
    for place in range(frames):
        expected = layer.decay * expected + (1 - layer.decay) * values[..., place]
        assert torch.allclose(average[..., place].double(), expected, atol=1e-5)


@pytest.mark.parametrize("decibels", [-40.0, 30.0])
def test_with_the_running_level_gain_moves_nothing_from_the_first_frame_on(decibels: float) -> None:
    net, level = NETWORKS["ecanet9"], RunningLevel()
    raw = features(320) * 3 - 8
    louder = raw + decibels * 0.2303
    assert torch.allclose(level(raw)[..., 0].mean(), torch.zeros(()), atol=1e-5)
    assert torch.allclose(level(raw), level(louder), atol=1e-4)
    one, other = (stepped(net, level(x), [8] * 40) for x in (raw, louder))
    assert float((one - other).abs().max()) < 1e-4
    state, parts = initial_states(level, raw[..., :8]), []
    for part in raw.split([8, 16, 200, 96], dim=3):
        with stepping(level, state) as new:
            parts.append(level(part))
        state = new
    assert torch.allclose(torch.cat(parts, dim=3), level(raw), atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(STREAMING)))
def test_a_network_without_a_causal_form_is_refused(name: str) -> None:
    with pytest.raises(ShrikeError, match=name):
        build(name, 0.125, gate_seconds=1.0)


@pytest.mark.parametrize("name", STREAMING)
def test_weights_of_a_window_network_fit_but_for_the_gates_starts(name: str) -> None:
    whole, streaming = build(name, 0.125).state_dict(), build(name, 0.125, gate_seconds=1.0).state_dict()
    extra = set(streaming) - set(whole)
    assert set(whole) <= set(streaming) and all(key.endswith("gate.pool.start") for key in extra)
    assert all(whole[key].shape == streaming[key].shape for key in whole)


@pytest.mark.parametrize(
    "preset, frames, expected",
    [("f0", 3, 112), ("f0", 112, 112), ("f0", 127, 112), ("f0", 128, 128), ("f0", 599, 592), ("f0", 9000, 592),
     ("wide", 112, 128), ("wide", 450, 448)],
)  # fmt: skip
def test_a_clips_score_is_that_of_its_last_whole_step(preset: str, frames: int, expected: int) -> None:
    assert scored(frames, PRESETS[preset]) == expected
