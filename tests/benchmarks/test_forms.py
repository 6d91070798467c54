"""Forms: every one of them is the same network, by whatever name it was called."""

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.footprint import footprint, peer_footprint
from benchmarks.forms import FORMS, Subject, of_file, resolve, unique
from benchmarks.steps import Sound, network_part, step_part, windows
from export.streaming_eval import by_steps
from runtime.audio.features import PRESETS, FeatureStream
from runtime.audio.score_times import STEP
from runtime.card.model_card import ANY_BATCH, read_card
from runtime.engines import as_streaming, initial_states
from runtime.engines.model_loader import MODELS
from runtime.support.errors import ShrikeError
from tests.export.conftest import make_checkpoint
from tests.runtime.made_model import made_model
from train.checkpoint import Checkpoint, RunProgress, versions, write_checkpoint
from train.config import Data, Distillation, Model, TrainConfig
from train.networks import build


@pytest.fixture(scope="module")
def model_pt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network by chance in a run's folder."""
    torch.manual_seed(0)
    settings = TrainConfig(Data(Path("none"), level="window-mean"), Model("ecanet9", 0.25), Distillation("off"))
    network = build("ecanet9", 0.25)
    path = tmp_path_factory.mktemp("runs") / "small" / "model.pt"
    write_checkpoint(path, Checkpoint(settings, network.state_dict(), {}, {}, RunProgress(), [], {}, versions()))
    return path


@pytest.fixture(scope="module")
def subjects(model_pt: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    found = resolve(str(model_pt), FORMS, tmp_path_factory.mktemp("forms") / "0", batches=(1, 3))
    return {subject.form: subject for subject in found}


def test_a_checkpoint_in_every_form_is_one_network(subjects: dict[str, Subject]) -> None:
    assert tuple(subjects) == FORMS and {subject.model for subject in subjects.values()} == {"small"}
    batch = windows(subjects["float"].frontend, 3)
    logits = {}
    for form, subject in subjects.items():
        engine = subject.open()
        logits[form] = np.concatenate([engine(window[None]) for window in batch])
        several = subject.open(batch=3)
        np.testing.assert_allclose(several(batch), logits[form], rtol=1e-3, atol=1e-3)
        for opened in (engine, several):
            opened.close()
    np.testing.assert_allclose(logits["float"], logits["torch"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits["u8"], logits["s8"], rtol=1e-3, atol=1e-3)
    assert np.abs(logits["u8"] - logits["float"]).max() < 0.1 * np.abs(logits["float"]).max()


def test_exported_forms_have_cards_that_vouch_for_them(subjects: dict[str, Subject]) -> None:
    for form in ("float", "s8", "u8"):
        subject = subjects[form]
        card = read_card(subject.path)
        assert card.input.shape[0] == 1 and card.precision == ("fp32" if form == "float" else "int8")
        assert subject.open_batch is not None and read_card(subject.open_batch).input.shape[0] == ANY_BATCH
        again = of_file(subject.path, "again")
        assert (again.form, again.batch, again.frontend) == (form, 1, subject.frontend)
        assert again.takes(1) and not again.takes(2) and subject.takes(2)
    assert any("INT8" in note for note in subjects["u8"].notes) and not subjects["float"].notes


def test_a_form_alone_exports_no_more_than_it_needs(model_pt: Path, tmp_path: Path) -> None:
    (only,) = resolve(str(model_pt), ["float"], tmp_path / "0")
    assert only.open_batch is None and len(list((tmp_path / "0").iterdir())) == 2


def test_an_embedded_model_is_taken_as_it_is(tmp_path: Path) -> None:
    for name in ("f0", "wide"):
        (subject,) = resolve(name, FORMS, tmp_path / name)
        assert subject.path == MODELS / f"{name}.onnx" and subject.form == "u8" and not subject.notes
        assert subject.megabytes == pytest.approx((MODELS / f"{name}.onnx").stat().st_size / 1e6)


def test_a_networks_name_says_that_its_weights_are_by_chance(tmp_path: Path) -> None:
    (subject,) = resolve("senet9", ["torch"], tmp_path / "0", frontend="wide")
    assert "by chance" in subject.notes[0] and subject.frontend == PRESETS["wide"] and subject.path.is_file()
    logits = subject.open()(windows(subject.frontend, 2))
    assert logits.shape == (2, 2) and np.isfinite(logits).all()


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    """A small network that remembers, in all forms it has."""
    folder = tmp_path_factory.mktemp("remembers")
    write_checkpoint(folder / "model.pt", make_checkpoint(level="running-mean", streaming=True))
    found = resolve(str(folder / "model.pt"), FORMS, folder / "0", batches=(1, 3))
    return {subject.form: subject for subject in found}


def test_a_network_that_remembers_has_steps_in_every_form_but_torch(steps: dict[str, Subject]) -> None:
    assert tuple(steps) == ("float", "s8", "u8") and {subject.frames for subject in steps.values()} == {STEP}
    assert any("torch has no step" in note for note in steps["float"].notes)
    scores = {}
    for form, subject in steps.items():
        card = read_card(subject.path)
        assert card.state is not None and card.input.shape == (1, 1, 45, STEP)
        clip = windows(subject.frontend, 1)
        one = as_streaming(subject.open())
        assert one is not None
        scores[form] = by_steps(one)(clip)
        several, states = as_streaming(subject.open(batch=3)), initial_states(card.state, 3)
        assert several is not None and several.state.frames == STEP
        for number, logits in enumerate(scores[form]):
            new = np.repeat(clip[..., number * STEP : (number + 1) * STEP], 3, axis=0)
            found, states = several.step(new, states)
            np.testing.assert_allclose(found, np.repeat(logits[None], 3, axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(scores["u8"], scores["s8"])
    assert np.abs(scores["u8"] - scores["float"]).max() < 0.2 * np.abs(scores["float"]).max()


def test_steps_in_torch_alone_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShrikeError, match="ecamobile-streaming in torch: it runs whole clips there"):
        resolve("ecamobile-streaming", ["torch"], tmp_path / "0")


def test_the_parts_of_a_step_are_those_of_a_stream(steps: dict[str, Subject]) -> None:
    """StreamScorer's score behind the second step of the benchmark, against the engine on the same frames."""
    subject = steps["float"]
    engine = as_streaming(subject.open())
    assert engine is not None
    sound, stream = Sound(subject.frontend, STEP, whole=True), FeatureStream(subject.frontend)
    frames = [stream.push(sound.first), *(stream.push(sound.next()) for _ in range(2))]
    assert [len(part) for part in frames] == [592, STEP, STEP]
    whole = np.ascontiguousarray(np.concatenate(frames).T, np.float32)[None, None]
    spoof, bonafide = by_steps(engine)(whole)[-1]
    part = step_part(subject.open(), subject.frontend)
    part()
    assert part() == pytest.approx(float(bonafide) - float(spoof), abs=1e-5)
    assert np.shape(network_part(subject.open(batch=3), subject.frontend, 3)()) == (3, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ecanet10", "no such model; a path to model.pt"),
        ("none.pt", "does not exist"),
        ("none.onnx", "does not exist"),
        ("bare.onnx", "give foreign models with --peer"),
        ("broken.pt", "is damaged"),
    ],
)
def test_what_cannot_be_resolved_is_one_sentence(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "bare.onnx").write_bytes(b"")
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    given = name if "." not in name else str(tmp_path / name)
    with pytest.raises(ShrikeError, match=message):
        resolve(given, FORMS, tmp_path / "0")


def test_two_models_of_one_name_stay_two_rows(tmp_path: Path) -> None:
    found = [subject for name in ("f0", "f0", "wide") for subject in resolve(name, (), tmp_path)]
    assert [subject.model for subject in unique(found)] == ["f0", "f0 (2)", "wide"]


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_a_network_that_remembers_runs_in_a_process_of_its_own(steps: dict[str, Subject]) -> None:
    held = footprint(steps["u8"])
    assert held is not None and held > 10


def test_memory_is_that_of_a_process_of_its_own(tmp_path: Path, subjects: dict[str, Subject]) -> None:
    made = of_file(made_model(tmp_path), "made")
    onnx, torch_form, peer = footprint(made), footprint(subjects["torch"]), peer_footprint(made.path, {})
    assert onnx is not None and torch_form is not None and peer is not None
    assert 10 < onnx < torch_form  # this process has torch loaded, the ONNX one has not
    assert abs(peer - onnx) < 30


def test_a_model_that_does_not_load_says_so(tmp_path: Path) -> None:
    made = of_file(made_model(tmp_path), "made")
    made.path.write_bytes(b"damaged")
    with pytest.raises(ShrikeError, match=r"model\.onnx does not run in a process of its own \(.*sha256"):
        footprint(made)
