"""Start-up time: from clocks that nobody sets."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.support import measure


def test_the_start_of_the_process_counts_and_the_wall_clock_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    program = (
        "import time; time.sleep(1.0); began = time.monotonic()\n"
        "from runtime.support.measure import since_process_start\n"
        "time.time = lambda: 1e12; time.sleep(0.5)\n"
        "print(since_process_start(), time.monotonic() - began)"
    )
    began = time.monotonic()
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    longest = time.monotonic() - began
    since_start, since_import = map(float, done.stdout.split())
    assert since_import + 0.99 <= since_start <= longest + 0.02  # the kernel counts in hundredths


@pytest.mark.parametrize("boottime", [1e9, -5.0])
def test_a_start_time_of_another_clock_is_not_used(monkeypatch: pytest.MonkeyPatch, boottime: float) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: boottime)
    assert measure._before_import() == 0.0


def test_without_proc_the_time_since_the_import_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert measure._before_import() == 0.0
