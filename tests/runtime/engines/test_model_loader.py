"""The engine that is loaded, and the reason: TensorRT beside the ONNX file, broken, of another machine, or missing.

TensorRT and the driver are MOCKS (tests/export/mock_tensorrt.py); cards, hashes, files and the ONNX are real.
"""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.features import RATE
from runtime.card import model_card as cards
from runtime.card.checksums import sha256_file
from runtime.card.model_card import read_card, write_card
from runtime.engines import tensorrt as engines
from runtime.engines.model_loader import MODELS, LoadedModel, find_model, load_model
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from tests.export.mock_tensorrt import CAPABILITY, GPU, MockCuda, MockTensorRT
from tests.runtime.made_model import made_model

ROOT = Path(__file__).resolve().parents[3]
RECORD = cards.TensorRT("10.3.0.9", GPU, ".".join(map(str, CAPABILITY)), None, "ab" * 32, 256, "fp16", (), 0, None)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """model.onnx with model.engine beside it, and one card that lists both."""
    path = made_model(tmp_path)
    plan = path.with_suffix(".engine")
    plan.write_bytes(b"MOCK plan")
    card = read_card(path)
    write_card(path, replace(card, files={**card.files, plan.name: sha256_file(plan)}, tensorrt=RECORD))
    return path


def use_mocks(monkeypatch: pytest.MonkeyPatch, version: str = "10.3.0", broken: str = "", failing: str = "") -> None:
    driver = MockCuda(failing=failing)
    monkeypatch.setattr(engines, "load_tensorrt", lambda: MockTensorRT(version, broken))
    monkeypatch.setattr(engines, "open_cuda", lambda: driver)


def scores(chosen: LoadedModel) -> list[float]:
    sound = (np.random.default_rng(1).standard_normal(6 * RATE) * 0.05).astype(np.float32)
    found = [score.value for score in StreamScorer(chosen.engine, chosen.card.frontend).push(sound)]
    chosen.engine.close()
    return found


def test_a_working_engine_is_taken_whichever_of_the_two_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mocks(monkeypatch)
    for path in (model, model.with_suffix(".engine")):
        chosen = load_model(path, "auto")
        assert (chosen.backend, chosen.reason, chosen.engine.precision) == ("TensorRT", "it fits this machine", "fp16")
        assert chosen.card.tensorrt == RECORD and len(scores(chosen)) > 40


def test_the_onnx_is_taken_where_that_is_asked(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mocks(monkeypatch)
    chosen = load_model(model.with_suffix(".engine"), "onnx")
    assert (chosen.backend, chosen.reason, chosen.engine.precision) == ("ONNX Runtime", "as requested", "fp32")
    assert len(scores(chosen)) > 40


def test_an_engine_alone_is_taken_or_the_reason_is_an_error(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = model.with_suffix(".engine")
    model.unlink()
    use_mocks(monkeypatch)
    assert load_model(plan, "auto").backend == "TensorRT"
    use_mocks(monkeypatch, version="8.6.1")
    with pytest.raises(ShrikeError, match=r"10\.3\.0\.9.*8\.6\.1\.9"):
        load_model(plan, "auto")


@pytest.mark.parametrize("broken", ["gpu", "plan", "context", "names", "type", "run"])
def test_a_broken_engine_gives_way_to_the_onnx_and_says_why(
    model: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    use_mocks(monkeypatch, broken=broken)
    chosen = load_model(model, "auto")
    assert chosen.backend == "ONNX Runtime" and chosen.card.tensorrt == RECORD
    assert "model.engine" in chosen.reason and "\n" not in chosen.reason
    assert not MockCuda.newest.memory  # what the attempt took was given back
    assert scores(chosen) == scores(load_model(model, "onnx"))
    with pytest.raises(ShrikeError):
        load_model(model, "tensorrt")


@pytest.mark.parametrize("failing", ["current", "allocate"])
def test_a_failing_driver_gives_way_as_well(model: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    use_mocks(monkeypatch, failing=failing)
    chosen = load_model(model, "auto")
    assert chosen.backend == "ONNX Runtime" and f"{failing} failed" in chosen.reason


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "8.6.1"}, "built with TensorRT 8.6.1, this machine has 10.3.0.9"),
        ({"gpu": "Xavier"}, "built on the GPU Xavier, this machine has Mock Orin"),
        ({"capability": "7.2"}, "built for compute capability 7.2"),
    ],
)
def test_an_engine_of_another_machine_gives_way_and_names_the_difference(
    model: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], sentence: str
) -> None:
    use_mocks(monkeypatch)
    write_card(model, replace(read_card(model), tensorrt=replace(RECORD, **changes)))  # type: ignore[arg-type]
    chosen = load_model(model, "auto")
    assert chosen.backend == "ONNX Runtime" and sentence in chosen.reason
    assert "python -m export.trt MODEL.onnx on this device" in chosen.reason


def test_a_changed_engine_and_one_that_the_card_does_not_know_never_reach_tensorrt(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "load_tensorrt", lambda: pytest.fail("TensorRT was loaded"))
    model.with_suffix(".engine").write_bytes(b"another plan")
    assert "sha256" in load_model(model, "auto").reason
    write_card(model, replace(read_card(model), files={model.name: sha256_file(model)}, tensorrt=None))
    assert "does not list model.engine" in load_model(model, "auto").reason


def test_a_damaged_onnx_is_no_way_out_of_a_broken_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_mocks(monkeypatch, broken="plan")
    model.write_bytes(b"changed")
    with pytest.raises(ShrikeError, match="sha256"):
        load_model(model, "auto")


def test_without_tensorrt_the_command_says_one_line_and_scores_with_the_onnx(model: Path, tmp_path: Path) -> None:
    """This machine has no TensorRT, or no GPU that Mock Orin is: no mock is needed."""
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, np.random.default_rng(1).standard_normal(2 * RATE) * 0.05, RATE)
    words = [sys.executable, "-m", "runtime.stream", "--file", str(clip), "--model", str(model), "--json"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 3  # which engine; the verdict; its cost
    assert done.stderr.splitlines()[0].startswith("made-f0 (fp32) with ONNX Runtime: model.engine does not run here: ")
    assert json.loads(done.stdout.splitlines()[0])["engine"] == "ONNX Runtime"


@pytest.mark.parametrize("name", ["nonsense", "", "..", "../f0", "/etc/passwd", "f0.json", "f0.onnx/", "a\0b", "f0\n"])
def test_a_name_that_is_no_model_is_one_line_and_leaves_the_folder_of_models(name: str) -> None:
    with pytest.raises(ShrikeError) as caught:
        load_model(find_model(name), "auto")
    assert "\n" not in str(caught.value)
    assert find_model("f0").parent == MODELS
