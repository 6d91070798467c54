"""However a command ends, no traceback reaches its user: Ctrl-C, a reader that leaves, a full disk, closed streams."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def ended(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """`line` of a shell, in `folder`."""
    shell = ["bash", "-o", "pipefail", "-c", line.replace("python", sys.executable, 1)]
    return subprocess.run(shell, cwd=folder, capture_output=True, text=True, timeout=120, env=ENVIRONMENT)


# One of each kind of output: a stream, tables of rich, print, JSON, help.
WRITERS = [
    "runtime.stream --file call.flac --json",
    "runtime.stream --help",
    "train.evaluate.summary scores.txt --bootstrap 0",
    "benchmarks.host --json",
    "benchmarks.report report",
    "benchmarks.compare report report --all",
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", WRITERS)
def test_a_full_disk_is_said_in_one_line(words: str, there: Path) -> None:
    done = ended(f"python -m {words} > /dev/full", there)
    assert done.returncode == 2 and re.search(r"(?m)^error: .*no space left", done.stderr), done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize("words", WRITERS)
def test_a_reader_that_leaves_is_a_normal_end(words: str, there: Path) -> None:
    done = ended(f"python -m {words} | sleep 0", there)  # which reads nothing, and goes first
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr and "rror" not in done.stderr


@pytest.mark.parametrize(
    "words", ["runtime.stream --demo --json >&-", "benchmarks.host >&-", "runtime.stream --stdin <&-"]
)
def test_streams_that_are_closed_are_no_bug(words: str, there: Path) -> None:
    done = ended(f"python -m {words}", there)
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("runtime.stream --file call.flac call.flac call.flac --realtime", 0),  # flushed and summed up
        ("train --corpus corpus --out interrupted --cache cache", 130),
        ("benchmarks.latency f0 --seconds 60 --out never", 130),
    ],
)
def test_ctrl_c_ends_without_a_traceback(words: str, code: int, there: Path) -> None:
    """To the whole group, as a terminal sends it: processes that compute are hit as well. It comes once they talk."""
    with subprocess.Popen(
        [sys.executable, "-m", *words.split()],
        cwd=there, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as running:  # fmt: skip
        assert running.stdout is not None and running.stderr is not None
        assert select.select([running.stdout, running.stderr], [], [], 300)[0] and running.poll() is None
        os.killpg(running.pid, signal.SIGINT)
        _, told = running.communicate(timeout=120)
    assert running.returncode == code, told
    assert "Traceback" not in told and (code == 0 or "stopped" in told.splitlines()[-1]), told


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_said(there: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed.txt"
    closed.write_text("u1 - bonafide 1.5\n")
    closed.chmod(0)
    done = ended(f"python -m train.evaluate.summary {closed}", there)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Permission denied" in done.stderr
