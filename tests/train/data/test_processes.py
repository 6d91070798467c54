"""A pool of processes: every item has its result, and none of them outlives the one that gave it work."""

import math
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from runtime.support.errors import ShrikeError
from train.data.processes import in_processes


def test_every_item_has_its_result() -> None:
    items = [9.0, 16.0, 25.0]
    assert sorted(in_processes(math.sqrt, items, 2, "counted")) == [(9.0, 3.0), (16.0, 4.0), (25.0, 5.0)]


def test_a_process_that_is_ended_is_one_sentence() -> None:
    with (
        pytest.raises(ShrikeError, match="counted"),
        closing(in_processes(os._exit, [1, 2], 1, "counted")) as results,
    ):
        next(results)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see processes")
def test_a_killed_caller_leaves_no_process_behind() -> None:
    program = (
        "import multiprocessing, time; from train.data.processes import in_processes\n"
        "for _ in in_processes(time.sleep, [0, 600, 600], 2, 'slept'):\n"
        "    print(*(child.pid for child in multiprocessing.active_children()), flush=True)\n"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert caller.stdout
    workers = [Path(f"/proc/{number}") for number in caller.stdout.readline().split()]
    assert workers and all(worker.exists() for worker in workers)
    caller.kill()
    caller.wait()
    until = time.monotonic() + 30
    while any(_runs(worker) for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def _runs(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"  # a zombie has ended
    except FileNotFoundError:
        return False
