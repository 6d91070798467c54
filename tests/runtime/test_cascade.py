"""A network in segments: it stops where its card says, says what that exit meant, and is read as hostile."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import soundfile

from runtime.card import read_card
from runtime.choice import MODELS, choose
from runtime.engines.cascade import CascadeEngine, open_cascade
from runtime.engines.onnx import open_onnx
from runtime.errors import ShrikeError
from runtime.features import RATE
from runtime.hashes import sha256_file
from tests.runtime.made_cascade import OFFSET, SCALE, made_cascade

ROOT = Path(__file__).resolve().parents[2]


def windows(count: int = 24) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(0)
    for number in range(count):
        yield (rng.normal(-8, 4, (1, 1, 45, 600)) + number / 6).astype(np.float32)


def early_llr(engine: CascadeEngine, window: np.ndarray) -> float:
    """What the first segment's own file says, by its map."""
    (_, session, source), *_ = engine._segments
    ((spoof, bonafide),) = session.run(["logits2"], {source: window})[0]
    return SCALE * (float(bonafide) - float(spoof)) + OFFSET


def test_without_thresholds_it_is_the_whole_network(tmp_path: Path) -> None:
    path = made_cascade(tmp_path)
    engine, whole = open_cascade(path), open_onnx(path)
    for window in windows():
        np.testing.assert_array_equal(engine(window), whole(window))
    assert engine.decided == {4: 24}
    several = np.concatenate(list(windows(3)))
    np.testing.assert_array_equal(engine(several), whole(several))


def test_it_stops_where_thresholds_say_and_gives_that_exits_llr(tmp_path: Path) -> None:
    plain = open_cascade(made_cascade(tmp_path / "plain"))
    llrs = [early_llr(plain, window) for window in windows()]
    low, high = np.quantile(llrs, [0.25, 0.75])
    path = made_cascade(tmp_path / "made", float(low), float(high))
    engine, whole, card = open_cascade(path), open_onnx(path), read_card(path)
    kinds = set()
    for window, llr in zip(windows(), llrs, strict=True):
        engine.decided.clear()
        logits = engine(window)
        score = float(logits[0, 1]) - float(logits[0, 0])
        if llr <= low or llr >= high:
            assert engine.decided == {2: 1}
            assert card.score.llr(score) == pytest.approx(llr, abs=1e-5)
        else:
            assert engine.decided == {4: 1}
            np.testing.assert_array_equal(logits, whole(window))
        kinds.add("low" if llr <= low else "high" if llr >= high else "on")
    assert kinds == {"low", "high", "on"}


def test_a_threshold_belongs_to_what_stops(tmp_path: Path) -> None:
    """At the threshold itself it stops; the next number beyond it does not."""
    (window,) = windows(1)
    llr = early_llr(open_cascade(made_cascade(tmp_path / "plain")), window)
    for low, exit in ((llr, 2), (float(np.nextafter(llr, -np.inf)), 4)):
        engine = open_cascade(made_cascade(tmp_path / str(exit), low=low))
        engine(window)
        assert engine.decided == {exit: 1}


def test_the_second_segment_is_not_touched_when_the_first_is_certain(tmp_path: Path) -> None:
    engine = open_cascade(made_cascade(tmp_path, 0.0, 0.0))
    engine._segments[1] = (engine._segments[1][0], None, "maps")  # a session that could not run
    for window in windows(4):
        assert engine(window).shape == (1, 2)
    assert engine.decided == {2: 4}


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.random.default_rng(1).standard_normal(8 * RATE) * 0.05, RATE)
    return path


def stream(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runtime.stream", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_stream_says_which_exits_decided(tmp_path: Path, clip: Path) -> None:
    done = stream("--cascade", "--model", str(made_cascade(tmp_path / "m", -0.2, 0.0)), "--file", str(clip), "--json")
    assert done.returncode == 0, done.stderr
    assert "a cascade, which stops at exit 2 or 4" in done.stderr and "of the multiply-adds" in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    found = lines[-1]["cascade"]
    assert set(found["decided"]) == {"2", "4"} and sum(found["decided"].values()) == pytest.approx(1)
    assert found["whole"] == 100
    assert found["multiply_adds"] == pytest.approx(40 * found["decided"]["2"] + 100 * found["decided"]["4"])


def test_without_the_option_the_whole_network_runs(tmp_path: Path, clip: Path) -> None:
    """And with it, where nothing ever stops, every line is the same."""
    path = made_cascade(tmp_path / "m")
    scores = []
    for option in ((), ("--cascade",)):
        done = stream(*option, "--model", str(path), "--file", str(clip), "--json")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        scores.append([line["score"] for line in lines if line["type"] == "verdict"])
        assert (lines[-1]["cascade"] is None) == (option == ())
    assert scores[0] == scores[1] and len(scores[0]) > 40


def test_a_model_without_a_cascade_is_one_line(clip: Path) -> None:
    done = stream("--cascade", "--model", "f0", "--file", str(clip))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "f0.onnx has none" in done.stderr and "python -m export.cascade" in done.stderr
    with pytest.raises(ShrikeError, match="give one of them"):
        choose(MODELS / "f0.onnx", "tensorrt", cascade=True)


def first(**changes: Any) -> dict[str, Any]:
    return {"segments": {0: changes}}


HOSTILE = [
    (first(file="../secret.onnx"), "leads out of the card's folder"),
    (first(file="/etc/passwd"), "leads out of the card's folder"),
    (first(file="other.onnx"), "other.onnx is not among the card's files"),
    (first(file="model-4.onnx"), "two segments share a file"),
    (first(exit=4), "exits do not rise"),
    (first(exit=0), "1 to 4 was expected"),
    (first(multiply_adds=100), "costs nothing"),
    (first(multiply_adds=-1), "a positive number"),
    (first(scale=-0.5), "a positive factor"),
    (first(low=1.0, high=0.0), "the lower threshold first"),
    (first(low="never"), "a number was expected"),
    (first(map=None), "hands on a map"),
    (first(map={"name": "maps", "shape": [1, 2**16, 2**16, 1], "type": "float32"}), "map maps: shape"),
    (first(map={"name": "maps", "shape": [1, 4, 1, 75], "type": "int4"}), "float32 or uint8 was expected"),
    (first(map={"name": "logits2", "shape": [1, 2], "type": "float32"}), "two outputs"),
    (first(more=1), "'more' does not belong there"),
    ({"segments": {1: {"exit": 3}}}, "must be the network's own"),
    ({"segments": {1: {"scale": 9.0}}}, "must be the network's own"),
    ({"segments": {1: {"low": 0.0}}}, "decides always"),
    ({"dev": {"decided": [1.0]}}, "a share for every segment"),
    ({"dev": {"eer": 2.0}}, "from 0 to 1"),
    ({"dev": {"loss": 0.5}}, "ends below its middle"),
]


@pytest.mark.parametrize(("changes", "sentence"), HOSTILE)
def test_a_hostile_section_is_refused(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    path = made_cascade(tmp_path, -0.2, 0.2)
    values = json.loads(path.with_suffix(".json").read_text())
    for number, entries in changes.get("segments", {}).items():
        values["cascade"]["segments"][number] |= entries
    values["cascade"]["dev"] |= changes.get("dev", {})
    path.with_suffix(".json").write_text(json.dumps(values))
    for use in (read_card, open_cascade):
        with pytest.raises(ShrikeError, match=sentence) as caught:
            use(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_a_number_of_segments_that_cannot_be(tmp_path: Path, count: int) -> None:
    path = made_cascade(tmp_path)
    values = json.loads(path.with_suffix(".json").read_text())
    values["cascade"]["segments"] = (values["cascade"]["segments"] * 3)[:count]
    path.with_suffix(".json").write_text(json.dumps(values))
    with pytest.raises(ShrikeError, match="2 to 4 were expected"):
        read_card(path)


def test_a_segment_that_was_changed_or_is_missing(tmp_path: Path) -> None:
    path = made_cascade(tmp_path)
    segment = tmp_path / "model-4.onnx"
    segment.write_bytes(segment.read_bytes() + b"\0")
    with pytest.raises(ShrikeError, match=r"model-4\.onnx is not the file"):
        open_cascade(path)
    segment.unlink()
    with pytest.raises(ShrikeError, match=r"model-4\.onnx is missing"):
        open_cascade(path)
    open_onnx(path).close()  # the whole network is as it was


def test_segments_of_another_network_are_refused(tmp_path: Path) -> None:
    """Vouched for by the card, but with other ports: exchanged, or another map than the card says."""
    path = made_cascade(tmp_path)
    card_file = path.with_suffix(".json")
    values = json.loads(card_file.read_text())
    values["cascade"]["segments"][0]["map"]["shape"] = [1, 4, 75, 1]
    card_file.write_text(json.dumps(values))
    with pytest.raises(ShrikeError, match=r"model-2\.onnx: the graph has .* its card says"):
        open_cascade(path)
    made_cascade(tmp_path)
    model = onnx.load(str(tmp_path / "model-2.onnx"))
    model.graph.node.append(onnx.helper.make_node("EPContext", [], ["k"], domain="com.microsoft"))
    onnx.save(model, str(tmp_path / "model-2.onnx"))
    values = json.loads(card_file.read_text())
    values["files"]["model-2.onnx"] = sha256_file(tmp_path / "model-2.onnx")
    card_file.write_text(json.dumps(values))
    with pytest.raises(ShrikeError, match="an engine in another file"):
        open_cascade(path)
