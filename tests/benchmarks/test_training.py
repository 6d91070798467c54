"""The throughput benchmark runs, on real pieces, and prints figures that fit together."""

import re
import subprocess
import sys
from pathlib import Path


def test_it_measures_cache_loop_and_bare_pass(made_corpus: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.training", "--corpus", str(made_corpus), "--network", "senet9",
         "--width", "0.25", "--batch", "4", "--rounds", "2", "--threads", "1"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cache, loop, bare, ratio = map(float, re.findall(r" (\d+\.\d+) ", done.stdout.replace("\n", " ")))
    assert min(cache, loop, bare, ratio) > 0
    assert "2 neighbouring pairs" in done.stdout and "senet9 on f0" in done.stderr
