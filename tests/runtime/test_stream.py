"""python -m runtime.stream as people use it: files, pipes, signals, full disks, readers that leave."""

import io
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from runtime.audio.decode import load
from runtime.audio.features import RATE, fill
from runtime.card import model_card as cards
from runtime.card.model_card import read_card
from runtime.engines import open_engine
from runtime.engines.model_loader import LoadedModel, find_model, load_model
from runtime.session import Session, VerdictOptions
from runtime.sinks.jsonl import JsonLines
from runtime.sources import Block
from runtime.summary import Summary
from runtime.support.errors import ShrikeError
from runtime.support.measure import Percentiles
from runtime.support.shutdown import Stop
from tests.runtime.made_model import made_model
from tests.runtime.speech import speech as voice

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_model(tmp_path_factory.mktemp("model"), "wide")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "clip.wav"
    soundfile.write(path, voice(6.5), RATE)
    return path


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "runtime.stream", *map(str, arguments)]


def stream(*arguments: Any, **more: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=ROOT, timeout=60, **more)


def lines(text: str, kind: str = "verdict") -> list[dict[str, Any]]:
    return [line for line in map(json.loads, text.splitlines()) if line["type"] == kind]


class Pieces:
    """A source of given blocks."""

    name, live = "pieces", False

    def __init__(self, *blocks: Block) -> None:
        self.blocks = blocks

    def __iter__(self) -> Any:
        return iter(self.blocks)

    def close(self) -> None:
        pass


def block(samples: np.ndarray, **more: Any) -> Block:
    return Block(samples, time.monotonic(), **more)


def run(model: Path, *blocks: Block, settings: VerdictOptions | None = None) -> tuple[list[dict[str, Any]], Summary]:
    out = io.StringIO()
    with open_engine(model) as engine, Stop() as stop:  # type: ignore[attr-defined]
        loaded = LoadedModel(engine, read_card(model), "ONNX Runtime", "", "made")
        session = Session(loaded, [JsonLines(out)], settings or VerdictOptions())
        summary = session.run(Pieces(*blocks), stop)
    return [json.loads(line) for line in out.getvalue().splitlines()], summary


# ---- the session


def test_verdicts_levels_and_flags_do_not_depend_on_blocks(model: Path) -> None:
    sound = voice(6.5)

    def without_time(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: v for k, v in line.items() if k != "at"} for line in found if line["type"] == "verdict"]

    whole = without_time(run(model, block(sound))[0])
    for size in (160, 1_000, 7_777):
        pieces = [block(sound[start : start + size]) for start in range(0, len(sound), size)]
        assert without_time(run(model, *pieces)[0]) == whole


def test_a_gap_is_marked_and_the_window_begins_again(model: Path) -> None:
    found, summary = run(model, block(voice(6.0)), block(voice(2.0), lost=1.5, note="unplugged"))
    kinds = [line["type"] for line in found]
    assert kinds.index("gap") < kinds.index("note") and (summary.gaps, summary.lost) == (1, 1.5)
    gap = lines("\n".join(map(json.dumps, found)), "gap")[0]
    assert (gap["t"], gap["lost"], gap["restarted"]) == (7.5, 1.5, True)
    after = [line for line in found[kinds.index("gap") :] if line["type"] == "verdict"]
    assert after[0]["t"] >= 8.5 and {line["state"] for line in after} <= {"no-voice", "too-short", "warming-up"}
    assert all("lost" in line["flags"] for line in after)
    assert summary.seconds == 8.0


def test_signs_of_life_and_numbers_that_are_none(model: Path) -> None:
    found, _ = run(model, block(voice(1.2)), block(np.empty(0, np.float32)), block(voice(0.2), invalid=3))
    assert "invalid" in found[-2]["flags"]


def test_nothing_at_all_is_a_summary_without_a_score(model: Path) -> None:
    found, summary = run(model)
    assert [line["type"] for line in found] == ["start", "summary"]
    assert summary.score is None and summary.p_spoof is None and summary.state == "no-voice"


# ---- the command


def test_json_has_its_schema_and_the_offline_score(model: Path, clip: Path) -> None:
    done = stream("--file", clip, "--model", model, "--json")
    assert done.returncode == 0, done.stderr
    start, *_, summary = map(json.loads, done.stdout.splitlines())
    verdicts = lines(done.stdout)
    assert start["v"] == 2 and start["type"] == "start" and summary["type"] == "summary"
    assert set(verdicts[0]) == {
        *("v", "type", "at", "t", "state", "score", "llr", "llr_mean", "p_spoof", "level", "flags", "latency_ms"),
        *("voiced", "spoken"),
    }
    frontend = read_card(model).frontend
    window = np.ascontiguousarray(fill(frontend.frames(load(clip).samples), frontend.width).T)[None, None]
    with open_engine(model) as engine:  # type: ignore[attr-defined]
        spoof, bonafide = engine(window)[0]
    full = [line for line in verdicts if line["state"] not in ("no-voice", "too-short", "warming-up")]
    assert start["threshold"] == summary["threshold"] == read_card(model).score.threshold
    assert full[0]["score"] == summary["score"] == float(bonafide) - float(spoof)
    assert full[0]["llr"] == pytest.approx(2 * full[0]["score"] + 0.5, abs=1e-4)
    assert np.allclose(np.diff([line["t"] for line in verdicts]), 0.0975, atol=2e-4)


def test_a_pipe_gives_the_scores_of_the_file(model: Path, clip: Path) -> None:
    file = stream("--file", clip, "--model", model, "--json")
    samples, _ = soundfile.read(clip, dtype="int16")
    piped = subprocess.run(
        command("--stdin", "--model", model, "--json"), input=samples.tobytes(), capture_output=True, cwd=ROOT
    )
    assert piped.returncode == 0
    assert [line["score"] for line in lines(piped.stdout.decode())] == [line["score"] for line in lines(file.stdout)]


def test_several_files_and_one_that_cannot_be_read(model: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    done = stream("--file", clip, tmp_path / "noise.wav", clip, "--model", model)
    assert done.returncode == 2
    assert "error: " in done.stderr and "noise.wav" in done.stderr and "Traceback" not in done.stderr
    summaries = done.stdout.splitlines()
    assert len(summaries) == 2 and summaries[0] == summaries[1]


def test_recording_gives_the_same_scores_again(model: Path, clip: Path, tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.flac"
    first = stream("--file", clip, "--model", model, "--json", "--record", recorded)
    again = stream("--file", recorded, "--model", model, "--json")
    scores = [[x["score"] for x in lines(done.stdout) if x["score"] is not None] for done in (first, again)]
    assert len(scores[0]) > 40 and np.allclose(*scores, atol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["recorded.flac"]


def test_a_full_disk_ends_the_recording_and_nothing_else(model: Path, tmp_path: Path) -> None:
    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    sound = (voice(8.0) * 32767).astype("<i2").tobytes()
    done = subprocess.run(
        command("--stdin", "--model", model, "--json", "--record", tmp_path / "recorded.flac"),
        input=sound,
        capture_output=True,
        cwd=ROOT,
        preexec_fn=small_files,
    )
    assert done.returncode == 2 and b"Traceback" not in done.stderr
    assert len(lines(done.stdout.decode())) > 60


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_with_a_summary_and_code_0(model: Path, number: int) -> None:
    process = subprocess.Popen(
        command("--stdin", "--model", model, "--json"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    assert process.stdin and process.stdout
    process.stdin.write((voice(2.0) * 32767).astype("<i2").tobytes())
    process.stdin.flush()
    process.stdout.readline()  # the start: signals are caught by now
    time.sleep(0.2)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["type"] == "summary"


def test_a_reader_that_leaves_is_no_error(model: Path, clip: Path) -> None:
    pipeline = f"{' '.join(command('--file', clip, '--model', model, '--json'))} | head -n 2; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", pipeline], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert done.stdout.splitlines()[-1] == "0" and "Traceback" not in done.stderr


@pytest.mark.parametrize("what", ["model", "card"])
def test_a_damaged_model_or_card_is_one_line(tmp_path: Path, clip: Path, what: str) -> None:
    path = made_model(tmp_path, "f0")
    damaged = path if what == "model" else path.with_suffix(".json")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 0xFF
    damaged.write_bytes(data)
    done = stream("--file", clip, "--model", path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_scores_that_were_not_fitted_are_marked(tmp_path: Path, clip: Path) -> None:
    path = made_model(tmp_path, "f0", score=cards.ScoreMap(1.0, 0.0, 0.0, None))
    done = stream("--file", clip, "--model", path, "--json")
    assert done.returncode == 0 and json.loads(done.stdout.splitlines()[0])["calibrated"] is False


# Loaded by what we use, each by accident once, or only where an option asks for it; megabytes and tenths of seconds.
NOT_AT_START = {
    *("asyncio", "ssl", "unittest", "typeguard", "multiprocessing", "email", "importlib.metadata"),
    *("matplotlib", "rich", "sounddevice", "soxr", "scipy", "torch", "onnx", "tensorrt", "pycuda"),
    *("numpy.random", "numpy.ma", "numpy.polynomial", "numpy.testing", "numpy.ctypeslib", "numpy.f2py"),
}


@pytest.mark.parametrize(
    "arguments", [["--plain"], ["--json", "--record", "{folder}/recorded.flac"]], ids=lambda a: a[0]
)
def test_nothing_heavy_is_loaded_that_the_options_do_not_ask_for(
    model: Path, clip: Path, tmp_path: Path, arguments: list[str]
) -> None:
    words = ["--file", clip, "--model", model, *(word.format(folder=tmp_path) for word in arguments)]
    program = (
        f"import runpy, sys\nsys.argv = ['x', *{[str(word) for word in words]!r}]\n"
        "runpy.run_module('runtime.stream', run_name='__main__', alter_sys=True)"
    )

    def loaded(program: str) -> set[str]:
        whole = (
            f"import sys\ntry:\n  exec({program!r})\nfinally:\n  print(*sorted(set(sys.modules) & {NOT_AT_START!r}))"
        )
        done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.returncode == 0, done.stderr
        return set(done.stdout.rpartition("\n")[0].rpartition("\n")[2].split())

    # Some versions of these four load more by themselves, numpy 1 for one.
    assert loaded(program) <= loaded("import numpy, onnxruntime, soundfile, tyro")
    assert "asyncio" in loaded("import asyncio, json")  # it does look


# ---- the parts


def test_a_tensorrt_engine_that_does_not_run_here_gives_way_and_says_why(tmp_path: Path) -> None:
    path = made_model(tmp_path)
    assert load_model(path, "auto").reason == ""
    path.with_suffix(".engine").write_bytes(b"a plan")
    chosen = load_model(path, "auto")
    assert chosen.backend == "ONNX Runtime" and "does not run here" in chosen.reason
    with pytest.raises(ShrikeError):
        load_model(path, "tensorrt")
    assert find_model(str(path)) == path


def test_percentiles_are_right_to_a_few_percent() -> None:
    times = Percentiles()
    values = np.random.default_rng(0).lognormal(-5, 1, 5000)
    for value in values:
        times.add(value)
    assert np.allclose(times.at(0.5, 0.95, 0.99), np.quantile(values, [0.5, 0.95, 0.99]), rtol=0.05)
    assert np.isnan(Percentiles().at(0.5)).all()


LONG_STREAM = """
import json, sys, time
import numpy as np
from runtime.engines.model_loader import load_model
from runtime.session import Session, VerdictOptions
from runtime.sources import Block
from tests.runtime.made_voice import voice
from runtime.support.measure import resident
from runtime.support.shutdown import Stop
from pathlib import Path

class Day:
    name, live, after = "day", False, []

    def __iter__(self):
        minute = np.resize(voice(16_000), 60 * 16_000)
        for _ in range(int(sys.argv[2])):
            self.after.append(resident())
            for start in range(0, len(minute), 8_000):
                yield Block(minute[start : start + 8_000], time.monotonic())

    def close(self):
        pass

day, model = Day(), load_model(Path(sys.argv[1]), "onnx")
with Stop() as stop:
    summary = Session(model, [], VerdictOptions(step=60)).run(day, stop)
print(json.dumps({"seconds": summary.seconds, "lost": summary.lost, "after": day.after}))
"""


def test_twenty_minutes_take_no_more_memory_than_one(model: Path) -> None:
    """The short form of an hour and a day; nothing grows with the length of a stream. In a process of its own: the
    memory of pytest's moves with the tests before."""
    minutes = os.environ.get("SHRIKE_STREAM_MINUTES", "20")
    done = subprocess.run(
        [sys.executable, "-c", LONG_STREAM, str(model), minutes], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["seconds"] == 60 * int(minutes) and found["lost"] == 0
    if found["after"][0] is not None:
        assert found["after"][-1] - found["after"][3] < 3  # MB
