"""Alerts of the whole command: real processes, a real server, real files."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import soundfile

from runtime.card import model_card as cards
from tests.runtime.made_model import made_model
from tests.runtime.sinks.test_webhook import serving

ROOT = Path(__file__).resolve().parents[2]
WRITE = "import os, sys; open(sys.argv[1], 'a').write(sys.stdin.read())"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model to which every voice is fake."""
    return made_model(tmp_path_factory.mktemp("model"), "wide", score=cards.ScoreMap(1e-6, -5.0, 0.0, "nothing"))


def stream(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "runtime.stream", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_change_reaches_command_server_json_and_evidence(tmp_path: Path, model: Path) -> None:
    log, evidence = tmp_path / "log", tmp_path / "evidence"
    with serving() as server:
        done = stream(
            *("--demo", "--model", model, "--json", "--changes", "--debounce", "0.5", "--webhook", server.url),
            *("--on-change", shlex.join([sys.executable, "-c", WRITE, str(log)]), "--keep-evidence", evidence),
        )
        assert done.returncode == 0, done.stderr
        posted = [body for _, _, body in server.posts]
    written = [line for line in lines(done.stdout) if line["type"] == "change"]
    assert "spoof" in {line["state"] for line in written}
    assert "verdict" not in {line["type"] for line in lines(done.stdout)}

    def without_time(changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in change.items() if key != "at"} for change in changes]

    assert without_time(posted) == without_time(written) == without_time(lines(log.read_text()))
    (kept,) = evidence.iterdir()
    sound, rate = soundfile.read(kept)
    first = next(line for line in written if line["state"] == "spoof")
    assert len(sound) == pytest.approx(min(10.0, first["t"]) * rate, abs=2)


def test_a_config_file_has_the_same_effect_as_the_options(tmp_path: Path, model: Path) -> None:
    config = tmp_path / "shrike.toml"
    config.write_text(f"demo = true\njson = true\nchanges = true\ndebounce = 0.5\nmodel = {json.dumps(str(model))}\n")
    by_file = stream("--config", config)
    by_words = stream("--demo", "--json", "--changes", "--debounce", "0.5", "--model", model)
    assert by_file.returncode == by_words.returncode == 0, by_file.stderr
    kinds = [[(line["type"], line.get("t")) for line in lines(done.stdout)] for done in (by_file, by_words)]
    assert kinds[0] == kinds[1] and "change" in dict(kinds[0])
    overridden = stream("--config", config, "--no-changes")
    assert "verdict" in {line["type"] for line in lines(overridden.stdout)}


@pytest.mark.parametrize(
    "words",
    [("--changes",), ("--debounce", "-1"), ("--webhook", "ftp://x/"), ("--on-change", "no-such-program-here")]
    + [("--keep-evidence", "e", "--evidence-mb", "0"), ("--json", "--changes", "--heartbeat", "0")],
)
def test_options_that_cannot_work_are_refused_before_anything_is_written(
    words: tuple[str, ...], tmp_path: Path, model: Path
) -> None:
    command = [sys.executable, "-m", "runtime.stream", "--demo", "--model", str(model), *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_check_finds_a_wrong_model_and_scores_nothing(tmp_path: Path, model: Path) -> None:
    good = stream("--mic", "--check", "--model", model, "--keep-evidence", tmp_path / "evidence")
    assert good.returncode == 0 and not (tmp_path / "evidence").exists(), good.stderr
    assert stream("--mic", "--check", "--model", tmp_path / "absent.onnx").returncode == 2


# ---- --record


def test_a_recording_replaces_nothing_without_the_option(tmp_path: Path, model: Path) -> None:
    target = tmp_path / "evening.flac"
    assert stream("--demo", "--model", model, "--record", target).returncode == 0
    before = target.read_bytes()
    assert stream("--demo", "--model", model, "--record", target).returncode == 2
    assert target.read_bytes() == before
    target.write_bytes(b"old")
    assert stream("--demo", "--model", model, "--record", target, "--overwrite").returncode == 0
    assert target.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("link", ["same", "symlink", "hardlink"])
def test_a_recording_never_replaces_its_own_input(tmp_path: Path, model: Path, link: str) -> None:
    source = tmp_path / "call.flac"
    assert stream("--demo", "--model", model, "--record", source).returncode == 0
    before = source.read_bytes()
    target = tmp_path / "other.flac"
    if link == "symlink":
        target.symlink_to(source)
    elif link == "hardlink":
        target.hardlink_to(source)
    else:
        target = source
    done = stream("--file", source, "--model", model, "--record", target, "--overwrite")
    assert done.returncode == 2 and source.read_bytes() == before, done.stderr


def test_a_recording_that_could_not_be_completed_sets_the_exit_code(tmp_path: Path, model: Path) -> None:
    """A limit on the size of files stands for a full disk."""
    program = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "sys.argv = ['x', *sys.argv[1:]]; runpy.run_module('runtime.stream', run_name='__main__')"
    )
    target = tmp_path / "evening.flac"
    words = ["--demo", "--model", str(model), "--record", str(target), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert lines(done.stdout)[-1]["type"] == "summary"  # scoring went on
