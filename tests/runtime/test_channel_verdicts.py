"""Verdicts by channel: each has a summary, the worst counts, and a mix that cancels makes no claim."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from runtime import ShrikeError, load
from runtime.summary import WORSE, Summary, worst
from tests.runtime.made_model import made_model
from tests.runtime.speech import speech

ROOT = Path(__file__).resolve().parents[2]
RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"), "wide")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Stereo files: speech on the left alone, inverted on the right, the same on both."""
    folder, voice = tmp_path_factory.mktemp("sound"), speech(7.0)
    rights = {"left": np.zeros_like(voice), "inverted": -voice, "same": voice}
    for name, right in rights.items():
        soundfile.write(folder / f"{name}.wav", np.stack([voice, right], axis=1), RATE)
    return {name: folder / f"{name}.wav" for name in rights}


def command(module: str, *arguments: Any) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "-m", f"runtime.{module}", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=60)


def objects(done: "subprocess.CompletedProcess[str]", kind: str) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [line for line in map(json.loads, done.stdout.splitlines()) if line["type"] == kind]


def test_each_channel_has_a_summary_and_the_worst_counts(model: Path, clips: dict[str, Path]) -> None:
    done = command("stream", "--file", clips["left"], "--model", model, "--json")
    summaries, files = objects(done, "summary"), objects(done, "file")
    assert [summary["channel"] for summary in summaries] == ["left", "right"]
    assert [start["channel"] for start in objects(done, "start")] == ["left", "right"]
    assert summaries[1]["state"] == "no-voice" and summaries[0]["voiced"] > 3
    assert len(files) == 1 and (files[0]["channel"], files[0]["channels"]) == ("left", 2)
    assert {name: files[0][name] for name in ("state", "llr", "source")} == {
        name: summaries[0][name] for name in ("state", "llr", "source")
    }
    same = command("stream", "--file", clips["same"], "--model", model, "--json")
    assert [one["channel"] for one in objects(same, "summary")] == [None] and not objects(same, "file")
    assert objects(same, "summary")[0]["score"] == pytest.approx(summaries[0]["score"], abs=1e-6)


def test_text_names_the_channel(model: Path, clips: dict[str, Path]) -> None:
    done = command("stream", "--file", clips["left"], "--model", model)
    left, right, file = done.stdout.splitlines()
    assert left.startswith(f"{clips['left']} (left): ") and right.startswith(f"{clips['left']} (right): no-voice")
    assert file.startswith(f"{clips['left']}: ") and "left" in file


def test_the_mix_of_channels_that_cancel_makes_no_claim(model: Path, tmp_path: Path) -> None:
    voice = speech(8.0)
    soundfile.write(tmp_path / "x.wav", np.stack([voice, -0.6 * voice], axis=1), RATE)
    done = command("stream", "--file", tmp_path / "x.wav", "--model", model, "--json", "--channel", "mix")
    (summary,) = objects(done, "summary")
    assert summary["flags"]["antiphase"] > 0.5 and summary["state"] == "unsure" and objects(done, "note")
    claims = {line["state"] for line in objects(done, "verdict") if "antiphase" in line["flags"]}
    assert not claims & {"spoof", "bonafide"}
    with load(model) as detector:
        sound = soundfile.read(tmp_path / "x.wav", dtype="float32")[0]
        assert detector.score(sound, channel="mix").state == "unsure"
        assert detector.score(sound).channel in ("left", "right")


def test_scan_and_the_api_take_the_worst_channel(model: Path, clips: dict[str, Path], tmp_path: Path) -> None:
    paths = [clips[name] for name in ("left", "inverted", "same")]
    done = command("scan", *paths, "--model", model, "--json", tmp_path / "out.jsonl", "--workers", 1)
    assert done.returncode == 0, done.stderr
    rows = {row["file"]: row for row in map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())}
    assert rows[str(clips["left"])]["channel"] == "left" and rows[str(clips["same"])]["channel"] is None
    assert rows[str(clips["inverted"])]["channel"] in ("left", "right")
    chosen = command("scan", clips["left"], "--model", model, "--channel", "right")
    assert ": no-voice" in chosen.stdout
    with load(model) as detector:
        for name, path in clips.items():
            sound = soundfile.read(path, dtype="float32")[0]
            summary = detector.score(sound)
            assert (summary.channel is None) == (name == "same")
            alone = detector.score(sound[:, 0])
            assert summary.llr == pytest.approx(alone.llr, abs=1e-3 if name == "inverted" else 1e-6)
        assert detector.score(soundfile.read(clips["left"])[0], channel="right").state == "no-voice"
        with pytest.raises(ShrikeError):
            detector.score(speech(1.0)[:, None].repeat(2, axis=1), channel="middle")  # type: ignore[arg-type]


def test_both_channels_run_together(model: Path, clips: dict[str, Path]) -> None:
    done = command("stream", "--file", clips["left"], clips["same"], "--model", model, "--together", "--json")
    found = {(one["source"], one["channel"]) for one in objects(done, "summary")}
    left, same = str(clips["left"]), str(clips["same"])
    assert found == {(left, "left"), (left, "right"), (same, None)}
    assert {one.get("channel") for one in objects(done, "verdict")} == {"left", "right", None}


@pytest.mark.parametrize("option", ["--record", "--plot"])
def test_one_recording_or_plot_needs_one_channel(
    model: Path, clips: dict[str, Path], tmp_path: Path, option: str
) -> None:
    target = tmp_path / ("x.flac" if option == "--record" else "x.png")
    done = command("stream", "--file", clips["left"], "--model", model, option, target)
    assert done.returncode == 2 and "--channel" in done.stderr and not target.exists()
    assert (
        command("stream", "--file", clips["left"], "--model", model, option, target, "--channel", "left").returncode
        == 0
    )
    assert target.exists()


@pytest.mark.parametrize(
    "words", [["--demo", "--channel", "left"], ["--stdin", "--channel", "each"], ["--file", "x", "--channel", "up"]]
)
def test_channels_that_do_not_exist_are_refused(words: list[str]) -> None:
    done = command("stream", *words)
    assert done.returncode == 2 and "--channel" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_pipe_gives_one_of_its_channels(model: Path, clips: dict[str, Path]) -> None:
    words = [sys.executable, "-m", "runtime.stream", "--stdin", "--model", str(model), "--json", "--channel", "right"]
    done = subprocess.run(words, input=clips["left"].read_bytes(), capture_output=True, cwd=ROOT, timeout=60)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert (summary["channel"], summary["state"]) == ("right", "no-voice")


def test_states_have_an_order() -> None:
    with_state = [Summary(**dict.fromkeys(Summary.__dataclass_fields__) | {"state": state}) for state in WORSE]
    for number, summary in enumerate(with_state):
        assert worst(with_state[: number + 1][::-1]) is summary
