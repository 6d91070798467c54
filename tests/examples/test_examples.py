"""Every example runs as its docstring says, is short, and agrees with the commands."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime import load
from tests.conftest import voice
from tests.runtime.sources.test_microphone import SINK, Daemon, missing
from tests.runtime.speech import speech
from tests.test_house import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
RATE = 16_000


def example(name: str, *words: object, code: int = 0, home: Path | None = None) -> str:
    """Run an example; its standard output."""
    environment = ENVIRONMENT | ({"HOME": str(home)} if home else {})
    line = [sys.executable, str(ROOT / "examples" / name), *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=500, env=environment)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three clips of 7 seconds of different synthesised speech."""
    folder = tmp_path_factory.mktemp("calls")
    paths = [folder / f"{name}.wav" for name in "abc"]
    for number, path in enumerate(paths):
        soundfile.write(path, speech(7.0, number), RATE, subtype="FLOAT")
    return paths


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_shows_how_to_run_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") < 100 and f"python examples/{path.name}" in text


def test_python_api(calls: list[Path]) -> None:
    lines = example("python_api.py", calls[0], "--model", "accurate").splitlines()
    assert lines[0].startswith("model: ") and lines[1].startswith("whole: ") and len(lines) > 10
    assert example("python_api.py").count("\n") > 10


def test_files(calls: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_text("no sound")
    rows = list(csv.DictReader(io.StringIO(example("files.py", calls[0].parent, broken, code=2))))
    assert [row["file"] for row in rows] == [*map(str, calls), str(broken)]
    assert [bool(row["error"]) for row in rows] == [False, False, False, True]
    with load("accurate") as detector:
        samples, rate = soundfile.read(calls[0], dtype="float32")
        assert rows[0]["llr"] == str(detector.score(samples, rate).llr)


def test_many_streams_give_what_one_gives(calls: list[Path]) -> None:
    together, alone = example("many_streams.py", *calls).splitlines(), example("many_streams.py", calls[1]).splitlines()
    assert {line.split()[0] for line in together} == set(map(str, calls))
    assert alone and [line for line in together if line.startswith(str(calls[1]))] == alone


@pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}")
def test_mic_hears_what_a_null_sink_plays(calls: list[Path], tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    daemon = Daemon(tmp_path / "home")
    try:
        player = daemon.player(calls[0], SINK)
        line = [sys.executable, str(ROOT / "examples" / "mic.py"), "--seconds", "8"]
        environment = ENVIRONMENT | daemon.environment | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=environment)
        player.wait()
    finally:
        daemon.stop()
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr[-2000:]
    states = [state.split()[2] for state in done.stdout.splitlines()[:-1] if " s  " in state]
    assert set(states) - {"no-voice"}, done.stdout


def test_train_own_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    for key in ("real", "fake"):
        for group in range(4):
            (tmp_path / key / f"{key}{group}").mkdir(parents=True)
            for number in range(6):
                path = tmp_path / key / f"{key}{group}" / f"{number}.wav"
                soundfile.write(path, voice(rng, key == "real")[: 2 * RATE], RATE)
    out = tmp_path / "out"
    more = ["--epochs", 1, "--network", "senet9", "--width", 0.1, "--batch", 4, "--threads", 1, "--workers", 0]
    example("train_own_folder.py", tmp_path / "real", tmp_path / "fake", "--out", out, *more, home=tmp_path)
    parts = {}
    for part in ("train", "dev", "eval"):
        fields = [line.split() for line in (out / "corpus" / "protocols" / f"{part}.txt").read_text().splitlines()]
        parts[part] = {(speaker, attack) for speaker, _, _, attack, _ in fields}
        assert {key for *_, key in fields} == {"bonafide", "spoof"}
    assert not parts["train"] & parts["dev"] and not parts["train"] & parts["eval"] and not parts["dev"] & parts["eval"]
    with load(out / "model.onnx") as detector:
        assert detector.card.network.name == "senet9"


def test_train_own_folder_needs_three_groups(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    example("train_own_folder.py", tmp_path / "real", tmp_path / "real", "--out", tmp_path / "out", code=1)
