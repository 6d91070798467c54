"""`--on-change COMMAND`: run a command when the state changes.

    on_change = OnChange("notify-send Shrike", say)
    sink = ChangeSink([on_change.send])

It runs without a shell; docs/alerts.md describes its standard input and environment. Commands run one after the other
on a thread of their own, so that the audio never waits for them.
"""

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress

from runtime.sinks.changes import StateChange
from runtime.support.background import BackgroundQueue, RateLimit
from runtime.support.errors import ShrikeError

TIMEOUT = 30.0  # s after which a command and its children are killed
MOST = 32  # changes that wait for a command
FLUSH = 5.0  # s that the end of the stream waits for commands


class OnChange:
    """Runs the command for each change; several sources may share it."""

    def __init__(self, command: str, say: Callable[[str], None], timeout: float = TIMEOUT) -> None:
        self._words = split(command)
        self._say, self._complain, self._timeout = say, RateLimit(say), timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._queue = BackgroundQueue("--on-change", self._run, MOST, self._complain)

    def send(self, change: StateChange) -> None:
        """Queue a change."""
        self._queue.put(change)

    def close(self) -> None:
        """Wait a few seconds for commands that are due, then kill them."""
        left = self._queue.close(FLUSH)
        if process := self._process:
            _kill(process)
        if left:
            self._say(f"--on-change: {left} of the changes were not passed on")

    def _run(self, change: StateChange) -> None:
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=_stderr(),  # stdout is for results
                env=os.environ | variables(change),
                start_new_session=True,  # Ctrl-C is not for it, and all its children can be killed
            )
        except OSError as error:
            self._complain(f"--on-change {self._words[0]}: cannot be started ({error.strerror or error})")
            return
        self._process = process
        try:
            process.communicate(change.body() + b"\n", self._timeout)
        except subprocess.TimeoutExpired:
            _kill(process)
            process.communicate()
            self._complain(f"--on-change {self._words[0]}: killed after {self._timeout:.0f} s")
            return
        finally:
            self._process = None
        if process.returncode:
            self._complain(f"--on-change {self._words[0]}: ended with exit code {process.returncode}")


def split(command: str) -> list[str]:
    """Split a command into words; the first must be a program that exists."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ShrikeError(f"--on-change {command!r}: expected a command with closed quotes ({error})") from error
    if not words:
        raise ShrikeError("--on-change '': expected a command")
    if shutil.which(words[0]) is None:
        raise ShrikeError(f"--on-change {words[0]!r}: no such program; give its path, or a name that is in PATH")
    return words


def variables(change: StateChange) -> dict[str, str]:
    """Environment variables of a change; what does not exist is empty."""
    entries = change.entries() | {"flags": ",".join(change.flags)}
    return {
        f"SHRIKE_{name.upper()}": "" if value is None else str(value)
        for name, value in entries.items()
        if name not in ("v", "type")
    }


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _stderr() -> int:
    try:
        os.fstat(2)
    except OSError:  # whoever started us has closed it
        return subprocess.DEVNULL
    return 2
