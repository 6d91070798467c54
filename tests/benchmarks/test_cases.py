"""Models under test: every form is the same network, whatever its name; and other projects' models."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks.cases import Subject, multiply_adds, of_file, resolve, unique
from benchmarks.latency.lineup import (
    features_part,
    footprint,
    network_part,
    noise,
    open_peer,
    parse_shape,
    step_part,
    windows,
)
from export.streaming_eval import by_steps
from runtime import load
from runtime.audio.features import PRESETS, FeatureStream, FrontEnd
from runtime.audio.framer import STEP as HOPS
from runtime.audio.score_times import STEP
from runtime.card.model_card import ANY_BATCH, read_card
from runtime.engines import as_streaming, open_engine
from runtime.engines.model_loader import MODELS
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.runtime.made_model import made_model
from tests.runtime.made_voice import voice
from train.checkpoint import write_checkpoint
from train.networks import build
from train.networks.cost import multiply_adds as of_torch

Sizes = list[int | str]
FORMS = ("torch", "float", "s8", "u8")


@pytest.fixture(scope="module")
def subjects(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    folder = tmp_path_factory.mktemp("small")
    write_checkpoint(folder / "model.pt", make_checkpoint())
    return {s.form: s for s in resolve(str(folder / "model.pt"), FORMS, folder / "0", batch=3)}


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    folder = tmp_path_factory.mktemp("streaming")
    write_checkpoint(folder / "model.pt", make_checkpoint(level="running-mean", streaming=True))
    return {s.form: s for s in resolve(str(folder / "model.pt"), FORMS, folder / "0", batch=3)}


def test_a_checkpoint_in_every_form_is_one_network(subjects: dict[str, Subject]) -> None:
    assert tuple(subjects) == FORMS and len({subject.model for subject in subjects.values()}) == 1
    batch = windows(subjects["float"].frontend, 3)
    logits = {}
    for form, subject in subjects.items():
        engine = subject.open()
        logits[form] = np.concatenate([engine(window[None]) for window in batch])
        np.testing.assert_allclose(engine(batch), logits[form], rtol=1e-3, atol=1e-3)
        engine.close()
    np.testing.assert_allclose(logits["float"], logits["torch"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits["u8"], logits["s8"], rtol=1e-3, atol=1e-3)


def test_exported_forms_have_cards(subjects: dict[str, Subject]) -> None:
    for form in ("float", "s8", "u8"):
        card, again = read_card(subjects[form].path), of_file(subjects[form].path, "again")
        assert card.input.shape[0] == ANY_BATCH and card.precision == ("fp32" if form == "float" else "int8")
        assert (again.form, again.batch, again.frontend) == (form, ANY_BATCH, subjects[form].frontend)
    assert subjects["u8"].notes and not subjects["float"].notes


def test_streaming_models_have_steps_in_every_form_but_torch(steps: dict[str, Subject], tmp_path: Path) -> None:
    assert tuple(steps) == ("float", "s8", "u8") and {subject.frames for subject in steps.values()} == {STEP}
    clip, logits = windows(steps["float"].frontend, 1), {}
    for form, subject in steps.items():
        engine = as_streaming(subject.open())
        assert engine is not None and engine.state.frames == STEP
        logits[form] = by_steps(engine)(clip)
    np.testing.assert_array_equal(logits["u8"], logits["s8"])
    with pytest.raises(ShrikeError):
        resolve("ecamobile-streaming", ["torch"], tmp_path / "0")


def test_embedded_and_named_networks(tmp_path: Path) -> None:
    (subject,) = resolve("edge", FORMS, tmp_path / "0")
    assert subject.path == MODELS / "edge.onnx" and subject.form == "u8" and not subject.notes
    (subject,) = resolve("senet9", ["torch"], tmp_path / "1", frontend="wide")
    assert subject.notes and subject.frontend == PRESETS["wide"]
    assert np.isfinite(subject.open()(windows(subject.frontend, 2))).all()


def test_an_encoder_by_name_has_its_layers_and_scores_arrays_as_streams(tmp_path: Path) -> None:
    both = {s.form: s for s in resolve("encoder", ("float", "u8"), tmp_path / "0", exit=1)}
    card, clip = read_card(both["u8"].path), voice(16_000)[:100_000]
    assert card.network.exit == 1 and card.frontend == both["u8"].frontend == PRESETS["mel"]
    counts = {multiply_adds(subject.path) for subject in both.values()}
    one_layer = build("encoder", loss="crossentropy", encoder=("base", 1, 0))
    assert len(counts) == 1 and counts.pop() == pytest.approx(of_torch(one_layer, 80, 500), rel=0.01)
    with load(both["u8"].path) as detector:
        stream = detector.stream()
        for start in range(0, len(clip), 7_777):
            stream.push(clip[start : start + 7_777])
        assert stream.finish().score == pytest.approx(detector.score(clip).score, abs=1e-5)
        short = detector.score(clip[:40_000])  # of 2.5 s
    assert short.score is None or np.isfinite(short.score)


def test_two_models_of_one_name_are_two_rows(tmp_path: Path) -> None:
    found = [subject for name in ("f0", "f0", "edge") for subject in resolve(name, (), tmp_path)]
    assert [subject.model for subject in unique(found)] == ["f0", "f0 (2)", "edge"]


def test_multiply_adds_of_the_graph_are_those_of_the_network(subjects: dict[str, Subject]) -> None:
    checkpoint = make_checkpoint()
    frontend = checkpoint.settings.frontend
    expected = of_torch(checkpoint.network(), frontend.bands, frontend.width)
    counts = {multiply_adds(subjects[form].path) for form in ("float", "u8", "s8")}
    assert len(counts) == 1 and counts.pop() == pytest.approx(expected, rel=0.01)


def test_memory_is_that_of_a_fresh_process(subjects: dict[str, Subject]) -> None:
    exported, in_torch = footprint(subjects["u8"]), footprint(subjects["torch"])
    assert exported is not None and in_torch is not None
    assert 10 < exported < in_torch  # only the second process loads torch


# ---- the parts of a step


@pytest.mark.parametrize("preset", ["f0", "wide"])
def test_a_step_is_features_and_network(tmp_path: Path, preset: str) -> None:
    path, frontend = made_model(tmp_path, preset), PRESETS[preset]
    step, features, engine = step_part(open_engine(path), frontend), features_part(frontend), open_engine(path)
    for _ in range(3):
        score, window = step(), features()
        spoof, bonafide = engine(window[None, None])[0]
        assert score == float(bonafide) - float(spoof)


def test_a_streaming_step_is_that_of_the_engine(steps: dict[str, Subject]) -> None:
    subject = steps["float"]
    engine = as_streaming(subject.open())
    assert engine is not None
    (first, chunks), stream = noise(subject.frontend, STEP, streaming=True), FeatureStream(subject.frontend)
    frames = np.concatenate([stream.push(first), *(stream.push(next(chunks)) for _ in range(2))])
    spoof, bonafide = by_steps(engine)(np.ascontiguousarray(frames.T, np.float32)[None, None])[-1]
    part = step_part(subject.open(), subject.frontend)
    part()
    assert part() == pytest.approx(float(bonafide) - float(spoof), abs=1e-5)
    assert np.shape(network_part(subject.open(), subject.frontend, 3)()) == (3, 2)


def test_windows_are_neighbours_and_the_noise_never_ends() -> None:
    batch, (_, chunks) = windows(FrontEnd(), 3), noise(FrontEnd(), HOPS)
    np.testing.assert_array_equal(batch[0, 0, :, HOPS:], batch[1, 0, :, :-HOPS])
    assert {len(next(chunks)) for _ in range(500)} == {HOPS * 130}


# ---- other projects' models


def peer_file(folder: Path, kind: int, sizes: Sizes) -> Path:
    """A graph whose output is its input's shape."""
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["y"])], "peer",
        [helper.make_tensor_value_info("x", kind, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)],
    )  # fmt: skip
    path = folder / "peer.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("kind", ["FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT64", "INT8", "UINT8"])
def test_every_kind_of_number_is_fed(tmp_path: Path, kind: str) -> None:
    (value,) = open_peer(peer_file(tmp_path, getattr(TensorProto, kind), ["batch", 3]), batch=2).feeds.values()
    assert value.shape == (2, 3) and (np.issubdtype(value.dtype, np.floating) or set(np.unique(value)) <= {0, 1})


@pytest.mark.parametrize(
    ("sizes", "batch", "shapes", "fed"),
    [
        (["n", 1, 45, 600], 1, {}, (1, 1, 45, 600)),
        (["n", 1, 45, "frames"], 4, {}, (4, 1, 45, 1)),
        (["n", "samples"], 8, {"x": (1, 64600)}, (8, 64600)),
        ([2, 3], 1, {}, (2, 3)),
        ([], 1, {}, ()),
    ],
)
def test_open_sizes_are_given_or_one(
    tmp_path: Path, sizes: Sizes, batch: int, shapes: dict[str, tuple[int, ...]], fed: tuple[int, ...]
) -> None:
    peer = open_peer(peer_file(tmp_path, TensorProto.FLOAT, sizes), 1, batch, shapes)
    assert peer.feeds["x"].shape == fed and list(peer.run()[0]) == list(fed)  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "sizes", "batch", "shapes"),
    [
        (TensorProto.STRING, ["n"], 1, {}),
        (TensorProto.FLOAT, ["n", 3], 1, {"y": (1, 3)}),
        (TensorProto.FLOAT, ["n", 3], 1, {"x": (1, 4)}),
        (TensorProto.FLOAT, ["n", 3], 1, {"x": (1,)}),
        (TensorProto.FLOAT, ["n", "m"], 1, {"x": (1, 10**9)}),
        (TensorProto.FLOAT, [2, 3], 4, {}),
    ],
)
def test_inputs_that_cannot_be_fed_are_refused(
    tmp_path: Path, kind: int, sizes: Sizes, batch: int, shapes: dict[str, tuple[int, ...]]
) -> None:
    with pytest.raises(ShrikeError) as caught:
        open_peer(peer_file(tmp_path, kind, sizes), 1, batch, shapes)
    assert "\n" not in str(caught.value)


def test_shapes_of_the_command_line() -> None:
    assert parse_shape("audio=1x64600") == ("audio", (1, 64600)) and parse_shape("a=b=3") == ("a=b", (3,))
    for text in ("audio", "audio=", "=1x2", "audio=0x4", "audio=1,2", "audio=-1"):
        with pytest.raises(ShrikeError):
            parse_shape(text)


@pytest.mark.parametrize("name", ["ecanet10", "none.pt", "none.onnx", "bare.onnx", "broken.pt"])
def test_models_that_cannot_be_used_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "bare.onnx").write_bytes(b"")
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ShrikeError) as caught:
        resolve(name if "." not in name else str(tmp_path / name), FORMS, tmp_path / "0")
    assert "\n" not in str(caught.value)
