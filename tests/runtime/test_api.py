"""The Python API agrees with the command, for every form of sound, and the examples of its page run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import runtime
from runtime import ShrikeError, Verdict, load
from tests.runtime import made_voice
from tests.runtime.made_model import made_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    return made_voice.voice(16_000)


def test_an_array_gets_what_the_command_gives_its_file(tmp_path: Path, voice: np.ndarray) -> None:
    model = made_model(tmp_path)
    soundfile.write(tmp_path / "voice.wav", voice, 16_000, subtype="FLOAT")
    command = [sys.executable, "-m", "runtime.stream", "--file", str(tmp_path / "voice.wav"), "--model", str(model)]
    done = subprocess.run([*command, "--json"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    with load(model) as detector:
        summary = detector.score(voice)
        stream = detector.stream()
        verdicts = [
            verdict for start in range(0, len(voice), 777) for verdict in stream.push(voice[start : start + 777])
        ]
        assert stream.finish() == stream.finish()
    assert (lines[-1]["score"], lines[-1]["llr"]) == pytest.approx((summary.score, summary.llr), abs=1e-6)
    reported = [line for line in lines if line["type"] == "verdict"]
    assert [line["state"] for line in reported] == [verdict.state for verdict in verdicts]
    assert [line["score"] is None for line in reported] == [verdict.score is None for verdict in verdicts]
    judged = [(line["score"], verdict.score) for line, verdict in zip(reported, verdicts, strict=True) if verdict.score]
    assert len(judged) > 40 and np.allclose(*zip(*judged, strict=True), atol=1e-6)
    assert [line["flags"] for line in reported] == [list(verdict.quality.flags) for verdict in verdicts]


def test_the_form_of_the_sound_does_not_matter(tmp_path: Path, voice: np.ndarray) -> None:
    whole = np.round(voice * 32_767).astype(np.int16)
    with load(made_model(tmp_path)) as detector:
        expected = detector.score(whole.astype(np.float32) / 32_768)
        for same in (
            whole,
            whole.astype(np.int32) << 16,
            np.stack([whole, whole], axis=1),
            whole.astype(float) / 32_768,
        ):
            assert detector.score(same).score == pytest.approx(expected.score, abs=1e-6)
        twice = detector.score(np.repeat(whole, 3), rate=48_000)  # not the same sound, but as long
        assert twice.seconds == pytest.approx(expected.seconds, abs=0.05)


def test_a_hole_and_numbers_that_are_none(tmp_path: Path, voice: np.ndarray) -> None:
    with load(made_model(tmp_path)) as detector:
        stream = detector.stream(smoothing=0)
        first: list[Verdict] = stream.push(voice)
        after = stream.lost(3.0) + stream.push(voice)
        assert after[0].state in ("no-voice", "too-short") and after[0].time > first[-1].time + 3.0
        assert stream.finish().lost == pytest.approx(3.0, abs=1e-3)
        broken = detector.stream().push(np.where(np.arange(len(voice)) == 50_000, np.nan, voice))
        assert any("invalid" in verdict.quality.flags for verdict in broken)


def test_invalid_arguments_are_errors(tmp_path: Path, voice: np.ndarray) -> None:
    with load(made_model(tmp_path)) as detector:
        for wrong in (
            voice[None, None],
            voice.astype(complex),
            np.array(["a"]),
            np.empty((3, 0), np.float32),
            voice[None],
        ):
            with pytest.raises(ShrikeError):
                detector.score(wrong)
        with pytest.raises(ShrikeError):
            detector.stream(rate=4_000)
        with pytest.raises(ShrikeError):
            detector.stream(prior=2.0)
        with pytest.raises(ShrikeError):
            detector.stream().lost(float("nan"))
        stream = detector.stream()
        stream.finish()
        with pytest.raises(ShrikeError):
            stream.push(voice)
    with pytest.raises(ShrikeError):
        load("wid")
    with pytest.raises(AttributeError):
        runtime.something  # type: ignore[attr-defined]  # noqa: B018


def test_the_page_lists_the_stable_names_and_its_examples_run(tmp_path: Path, voice: np.ndarray) -> None:
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    listed = re.findall(r"`(\w+)`", " ".join(re.findall(r"(?m)^\| (`.*?) \|", page)))
    assert sorted(listed) == sorted(runtime.__all__) == sorted(runtime.MODULES)
    assert all(getattr(runtime, name) for name in listed)
    soundfile.write(tmp_path / "call.flac", voice, 16_000)
    made_model(tmp_path)
    code = "\n".join(re.findall(r"(?s)```python\n(.*?)```", page))
    given = "import numpy as np\nchunks = [np.zeros(48_000)] * 3\n"
    script = given + code.replace('"f0"', repr(str(tmp_path / "model.onnx")))
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "call" not in done.stderr and len(done.stdout.splitlines()) >= 3


def test_importing_runtime_costs_nothing() -> None:
    code = "import sys, runtime; print(sum(name in sys.modules for name in ('numpy', 'onnxruntime', 'tyro')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
