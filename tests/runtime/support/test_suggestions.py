"""A mistyped name or path is answered with what exists."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.support.suggestions import nearby, nearest


def test_the_nearest_name() -> None:
    assert nearest("wid", ["f0", "wide"]) == "; did you mean wide?"
    assert nearest("ecanet19", ["ecanet9", "ecanet18", "senet9"]) in (
        "; did you mean ecanet9?",
        "; did you mean ecanet18?",
    )
    assert nearest("something else", ["f0", "wide"]) == nearest("", []) == ""


def test_a_path_that_differs_in_one_part(tmp_path: Path) -> None:
    model = tmp_path / "runs" / "distilled" / "model.pt"
    model.parent.mkdir(parents=True)
    model.touch()
    for wrong in ("run/distilled/model.pt", "runs/destilled/model.pt", "runs/distilled/modle.pt"):
        assert nearby(tmp_path / wrong) == f"; did you mean {model}?"


def test_paths_without_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "calm\x1b.wav").touch()  # a name that would paint the terminal
    for hopeless in ("run/destilled/x", "file/below", "zzz", "calm.wav", "a\x00b", "x" * 300):
        assert nearby(tmp_path / hopeless) == ""
    assert nearby(tmp_path / "file") == nearby("") == ""


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["runtime.stream", "--demo", "--model", "edgy"], "did you mean edge?"),
        (["runtime.stream", "--file", "REDME.md"], "did you mean README.md?"),
        (["runtime.stream", "--demo", "--modle", "f0"], "did you mean --model?"),
        (["export.onnx", "runs/model.pt", "--calibration", "test"], "did you mean tests?"),
        (["train", "--corpus", "test"], "did you mean tests?"),
        (["train", "--corpus", "tests", "--network", "ecanet90"], "did you mean ecanet9?"),
        (["benchmarks.latency", "senet8"], "did you mean senet"),
    ],
)
def test_commands_say_what_was_meant(words: list[str], meant: str) -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-m", *words], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert meant in done.stderr
    assert "Traceback" not in done.stderr
