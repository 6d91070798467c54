"""Ctrl-C and SIGTERM as a normal end."""

import subprocess
import sys

# The main thread spends its time inside of wait(), where a lock would be held when the signal comes.
SIGNALLED = """
import os, signal, threading
from runtime.support.shutdown import Stop
for _ in range(100):
    with Stop() as stop:
        threading.Timer(0.005, os.kill, (os.getpid(), signal.SIGTERM)).start()
        while not stop.wait(0):
            pass
        assert stop.requested and stop.wait(60)
"""


def test_a_signal_within_a_wait_is_a_request() -> None:
    assert subprocess.run([sys.executable, "-c", SIGNALLED], timeout=60).returncode == 0
