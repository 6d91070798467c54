"""The throughput benchmark runs on real pieces and prints positive figures."""

import re
import sys
from pathlib import Path

import pytest

from benchmarks import training


def test_cache_loop_and_bare_pass_are_measured(
    made_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "x",
        "--corpus",
        str(made_corpus),
        "--network",
        "senet9",
        "--width",
        "0.25",
        "--batch",
        "4",
        "--rounds",
        "2",
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--threads", "1"])
    training.main()
    figures = list(map(float, re.findall(r" (\d+\.\d+)", capsys.readouterr().out)))
    assert len(figures) == 6 and min(figures) > 0
