"""The TensorRT engine, driven against MOCKS of TensorRT and of the driver: the calls, their order, and every refusal.

What a GPU computes cannot be seen here; that no call is made which a version lacks, that every window goes its way
through pinned memory and back, and that everything is released, can.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from runtime.audio.features import PRESETS, RATE
from runtime.card import model_card as cards
from runtime.card.model_card import ModelCard, sha256_file, write_card
from runtime.engines import initial_states, open_engine
from runtime.engines import tensorrt as engines
from runtime.engines.cuda import CudaError
from runtime.engines.jetpack import JETPACKS, how_to_get_tensorrt, jetpack, l4t, load_tensorrt, memory_available
from runtime.engines.tensorrt import TensorRTEngine
from runtime.multi_stream import StreamBatcher
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.export.mock_tensorrt import CAPABILITY, GPU, MOST, VERSIONS, MockCuda, MockTensorRT
from tests.made_card import plain_card

WINDOW = (1, 45, 600)


def make_card(version: str = "10.3.0.9", gpu: str = GPU) -> ModelCard:
    record = cards.TensorRT(version, gpu, ".".join(map(str, CAPABILITY)), None, "ab" * 32, 256, "fp16", (), 0, None)
    return plain_card(
        PRESETS["f0"],
        name="ecanet9",
        input=cards.TensorSpec("features", (-1, *WINDOW)),
        output=cards.TensorSpec("logits", (-1, 2)),
        target="tensorrt",
        files={"model.engine": "ab" * 32},
        tensorrt=record,
    )


def mock_engine(version: str = "10.3.0", broken: str = "", **driver: Any) -> TensorRTEngine:
    return TensorRTEngine(b"MOCK plan", make_card(), MockTensorRT(version, broken), MockCuda(**driver))


def features(count: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(-8, 4, (count, *WINDOW)).astype(np.float32)


# ---- windows in, logits out


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_every_window_goes_through_and_comes_back(version: str, capturable: bool) -> None:
    with mock_engine(version, capturable=capturable) as engine:
        assert engine.graph == capturable and (engine.name, engine.precision) == ("ecanet9", "fp16")
        assert engine.batch == MOST
        for count in (3, 1, 0, 2, 7, 2 * MOST):
            windows = features(count)
            logits = engine(windows)
            assert logits.shape == (count, 2) and logits.dtype == np.float32
            np.testing.assert_allclose(logits[:, 1], windows.sum(axis=(1, 2, 3), dtype=np.float64), rtol=1e-6)
            assert not logits[:, 0].any()


def test_logits_are_the_callers_to_keep() -> None:
    with mock_engine() as engine:
        first = engine(features(1))
        before = first.copy()
        engine(features(1) * 2)
        np.testing.assert_array_equal(first, before)


def test_views_and_slices_are_taken_as_they_are() -> None:
    with mock_engine() as engine:
        ring = np.zeros((1, 1, 45, 1200), np.float32)
        ring[..., 600:] = 1.0
        assert engine(ring[..., 600:])[0, 1] == 45 * 600


@pytest.mark.parametrize("shape", [WINDOW, (1, 1, 60, 600), (1, 1, 45, 599), (1, 2, 45, 600)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with mock_engine() as engine, pytest.raises(ShrikeError, match="features"):
        engine(np.zeros(shape, np.float32))


def test_other_types_are_refused() -> None:
    with mock_engine() as engine, pytest.raises(ShrikeError, match="float64"):
        engine(features(1).astype(np.float64))


# ---- the GPU's own clock


@pytest.mark.parametrize("capturable", [True, False])
@pytest.mark.parametrize("version", VERSIONS)
def test_events_stand_around_each_part(version: str, capturable: bool) -> None:
    """The mock's clock goes on by one with every piece of work and every event."""
    with mock_engine(version, capturable=capturable) as engine:
        times = engine.device_times(features(1), 5)
        assert {name: set(values) for name, values in times.milliseconds.items()} == {
            "launch": {4.0},  # an event, copy, kernel, copy
            "to device": {2.0},  # an event, copy
            "compute": {2.0},
            "to host": {2.0},
        }
        assert all(len(values) == 5 for values in times.milliseconds.values())
        assert times.graph == capturable and times.waiting == "spin"
        windows = features(2)
        np.testing.assert_allclose(engine(windows)[:, 1], windows.sum(axis=(1, 2, 3), dtype=np.float64), rtol=1e-6)
    assert not MockCuda.newest.memory


# ---- streaming models


STATES = (("ring", "ring_after", (3, 5)), ("average", "average_after", (4,)))


def streaming(
    broken: str = "", kind: Literal["float32", "uint8"] = "float32", capturable: bool = True
) -> TensorRTEngine:
    tensors = tuple(cards.StateTensor(*names, shape, kind, (2.0,)) for *names, shape in STATES)
    card = replace(make_card(), input=cards.TensorSpec("features", (-1, 1, 45, 16)), state=cards.State(16, tensors))
    driver = MockCuda(capturable=capturable)
    return TensorRTEngine(b"MOCK plan", card, MockTensorRT("10.3.0", broken, states=STATES), driver)


@pytest.mark.parametrize("capturable", [True, False])
def test_states_go_in_and_come_out_renewed(capturable: bool) -> None:
    new = np.random.default_rng(0).normal(-8, 4, (4, 3, 1, 45, 16)).astype(np.float32)
    with streaming(capturable=capturable) as engine:
        assert engine.state is not None
        states = initial_states(engine.state, 3)
        states[0][1] = 9.0  # of the second stream
        for step, features in enumerate(new):
            before = [state.copy() for state in states]
            logits, states = engine.step(features, states)
            sums = features.sum(axis=(1, 2, 3), dtype=np.float64) + sum(state.reshape(3, -1).sum(1) for state in before)
            np.testing.assert_allclose(logits[:, 1], sums, rtol=1e-5)
            assert (states[0][0] == 3.0 + step).all() and (states[1] == 2.0 + 2 * (step + 1)).all()
            assert (states[0][1] == 10.0 + step).all()
        assert set(engine.device_times(new[0], 3).milliseconds) == {"launch", "to device", "compute", "to host"}
        with pytest.raises(ShrikeError, match=r"step\(\)"):
            engine(features)
        with pytest.raises(ShrikeError, match="states"):
            engine.step(new[0], states[:1])
    assert not MockCuda.newest.memory


def test_an_engine_of_one_window_computes_one_at_a_time() -> None:
    trt = MockTensorRT("10.3.0", batch=1)
    with TensorRTEngine(b"MOCK plan", make_card(), trt, MockCuda()) as engine:
        before, windows = trt.calls["runs"], features(4)
        np.testing.assert_allclose(engine(windows)[:, 1], windows.sum(axis=(1, 2, 3), dtype=np.float64), rtol=1e-6)
        assert engine.batch == 1 and trt.calls["runs"] == before + 4


def test_a_batch_is_one_run() -> None:
    trt = MockTensorRT("10.3.0")
    with TensorRTEngine(b"MOCK plan", make_card(), trt, MockCuda()) as engine:
        engine(features(MOST))  # captures it
        before = trt.calls["runs"]
        engine(features(MOST))
        engine(features(MOST + 1))
        assert trt.calls["runs"] == before + 3


def test_a_pool_runs_on_it() -> None:
    """Streams together through one engine, each with its own states: the mock's score tells their steps."""
    sound = np.random.default_rng(1).normal(0, 0.05, 3 * RATE).astype(np.float32)
    with streaming() as engine:
        alone = StreamScorer(engine, PRESETS["f0"]).push(sound)
        batcher = StreamBatcher(engine, PRESETS["f0"])
        one, two = batcher.create_stream(), batcher.create_stream()
        one.accept_waveform(sound[:RATE])
        batcher.decode_all([one])
        for stream, rest in ((one, sound[RATE:]), (two, sound)):
            stream.accept_waveform(rest)
        batcher.decode_all([one, two])
        assert batcher.get_result(one) == batcher.get_result(two) == alone and len(alone) > 10


@pytest.mark.parametrize(
    ("broken", "kind", "named"),
    [("state", "float32", "average_after"), ("names", "float32", "scores"), ("", "uint8", "ring")],
)
def test_states_that_do_not_fit(broken: str, kind: Literal["float32", "uint8"], named: str) -> None:
    with pytest.raises(ShrikeError) as caught:
        streaming(broken, kind)
    assert named in str(caught.value) and "\n" not in str(caught.value) and not MockCuda.newest.memory


# ---- everything is released


@pytest.mark.parametrize("capturable", [True, False])
def test_close_gives_everything_back_once(capturable: bool) -> None:
    driver = MockCuda(capturable=capturable)
    engine = TensorRTEngine(b"MOCK plan", make_card(), MockTensorRT("10.3.0"), driver)
    assert len(driver.memory) == 4
    for _ in range(2):
        engine.close()
    assert not driver.memory and driver.closed
    with pytest.raises(ShrikeError, match="closed"):
        engine(features(1))


BROKEN = {  # and what of TensorRT's own words, or of the engine, the line repeats
    "gpu": "MOCK CUDA initialization failure",
    "plan": "MOCK The engine plan file is not compatible",
    "context": "memory",
    "names": "scores",
    "type": "HALF",
    "run": "MOCK enqueueV3 failed",
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_failed_start_is_one_line_and_gives_everything_back(broken: str) -> None:
    with pytest.raises(ShrikeError) as caught:
        mock_engine(broken=broken)
    assert BROKEN[broken] in str(caught.value) and "\n" not in str(caught.value)
    assert not MockCuda.newest.memory and MockCuda.newest.closed


@pytest.mark.parametrize("name", ["current", "pinned", "allocate", "synchronise"])
def test_a_failing_gpu_is_an_error_and_everything_is_released(name: str) -> None:
    with pytest.raises(CudaError, match=name):
        mock_engine(failing=name)
    assert not MockCuda.newest.memory and MockCuda.newest.closed


# ---- the card is asked before TensorRT is


def place(folder: Path, card: ModelCard) -> Path:
    path = folder / "model.engine"
    path.write_bytes(b"MOCK plan")
    write_card(path, replace(card, files={path.name: sha256_file(path)}))
    return path


def use_mocks(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0") -> MockCuda:
    driver = MockCuda()
    monkeypatch.setattr(engines, "load_tensorrt", lambda: MockTensorRT(version))
    monkeypatch.setattr(engines, "open_cuda", lambda: driver)
    return driver


def test_open_engine_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mocks(monkeypatch)
    engine = open_engine(place(tmp_path, make_card()))
    assert engine.precision == "fp16" and engine(features(2)).shape == (2, 2)
    engine.close()


@pytest.mark.parametrize(
    ("card", "sentence"),
    [
        (make_card(version="8.6.2"), "built with TensorRT 8.6.2, this machine has 10.3.0.9"),
        (make_card(gpu="Xavier"), "built on the GPU Xavier, this machine has Mock Orin"),
    ],
)
def test_another_machine_s_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, card: ModelCard, sentence: str
) -> None:
    driver = use_mocks(monkeypatch)
    with pytest.raises(ShrikeError) as caught:
        open_engine(place(tmp_path, card))
    assert sentence in str(caught.value) and "python -m export.trt MODEL.onnx" in str(caught.value)
    assert driver.closed and not driver.memory


def test_a_changed_engine_never_reaches_tensorrt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place(tmp_path, make_card())
    path.write_bytes(b"another plan")
    monkeypatch.setattr(engines, "load_tensorrt", lambda: pytest.fail("TensorRT was loaded"))
    with pytest.raises(ShrikeError, match=r"sha256"):
        open_engine(path)


# ---- what a Jetson brings along


def test_a_machine_without_tensorrt_prints_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(ShrikeError) as caught:
        load_tensorrt()
    for words in ("--system-site-packages", "dist-packages", "JetPack", "8.5.2", "10.16.1"):
        assert words in str(caught.value)


def test_a_broken_tensorrt_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "tensorrt", raising=False)
    with pytest.raises(ShrikeError, match=r"cannot be imported \(libnvinfer\.so\.10: cannot open"):
        load_tensorrt()


@pytest.mark.parametrize(
    ("release", "version", "row"),
    [
        ("# R35 (release), REVISION: 4.1, GCID: 1, BOARD: t186ref", "35.4.1", JETPACKS[0]),
        ("# R36 (release), REVISION: 3.0, GCID: 1", "36.3.0", JETPACKS[1]),
        ("# R36 (release), REVISION: 4.3, GCID: 1", "36.4.3", JETPACKS[2]),
        ("# R36 (release), REVISION: 5.0, GCID: 1", "36.5.0", JETPACKS[2]),
        ("# R38 (release), REVISION: 2.0, GCID: 1", "38.2.0", JETPACKS[3]),
        ("# R39 (release), REVISION: 1.0, GCID: 1", "39.1.0", JETPACKS[4]),
        ("# R32 (release), REVISION: 7.1, GCID: 1", "32.7.1", None),
    ],
)
def test_the_release_file_names_the_jetpack(tmp_path: Path, release: str, version: str, row: Any) -> None:
    path = tmp_path / "nv_tegra_release"
    path.write_text(release)
    assert l4t(path) == version and jetpack(version) == row


def test_on_a_jetson_its_own_row_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engines.jetpack.l4t", lambda: "36.4.3")
    assert all(fact in how_to_get_tensorrt() for fact in ("36.4.3", *JETPACKS[2][::2], JETPACKS[2][3]))


def test_jetpack_5_gets_what_works_instead_of_a_virtual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.engines.jetpack.l4t", lambda: "35.6.5")
    advice = how_to_get_tensorrt()
    assert all(way in advice for way in ("3.8", "3.10", "trtexec", "CPU")) and "--system-site-packages" not in advice


def test_other_machines_have_no_l4t_and_may_not_know_their_memory(tmp_path: Path) -> None:
    assert l4t(tmp_path / "none") is None and memory_available(tmp_path / "none") is None
    (tmp_path / "meminfo").write_text("MemTotal: 8 kB\nMemAvailable:    3145728 kB\n")
    assert memory_available(tmp_path / "meminfo") == 3072
