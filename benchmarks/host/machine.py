"""Where every fact comes from: files and programs below one root, so that a recorded tree can be described as well.

    machine = Machine()                           # this one; Machine(tmp_path) in a test
    machine.text("proc/loadavg")                  # or NotMeasured("/proc/loadavg is not there")
    machine.run("nvpmodel", "-q")                 # or NotMeasured("nvpmodel is not there")
    fact(machine.text, "proc/loadavg")            # a string in any case: "not measured, because ..."

A reason names the file or the program, nothing that belongs to a user: no output of a failed program, no root.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

TIMEOUT = 10.0  # s: nvidia-smi takes seconds on a GPU that sleeps, and forever on a broken driver
PROGRAMS = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")  # nvpmodel is in sbin
UNKNOWN = "not measured, because "

Parameters = ParamSpec("Parameters")
Value = TypeVar("Value")


class NotMeasured(Exception):  # noqa: N818 - no error: the ordinary answer of a machine that lacks something
    """Why a fact is not known: the end of a sentence that begins with "not measured, because"."""

    def __str__(self) -> str:
        return f"{UNKNOWN}{self.args[0]}"


def fact(measure: Callable[Parameters, Value], *args: Parameters.args, **kwargs: Parameters.kwargs) -> Value | str:
    """What `measure` returns, or the sentence that says why there is nothing."""
    try:
        return measure(*args, **kwargs)
    except NotMeasured as reason:
        return str(reason)


def known(value: Any) -> bool:
    """False for the sentence that stands where a value is missing."""
    return not (isinstance(value, str) and value.startswith(UNKNOWN))


@dataclass(frozen=True)
class Machine:
    """Files and programs of one machine."""

    root: Path = Path("/")

    def text(self, path: str) -> str:
        """A file's text without the white space and the zero byte (device tree) at its end."""
        # Plain system calls: Python's files turn the EAGAIN of a sleeping sensor into a TypeError.
        try:
            handle = os.open(self.root / path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                parts = iter(lambda: os.read(handle, 1 << 20), b"")
                return b"".join(parts).decode("utf-8", "replace").strip(" \t\r\n\0")
            finally:
                os.close(handle)
        except FileNotFoundError as error:
            raise NotMeasured(f"/{path} is not there") from error
        except PermissionError as error:
            raise NotMeasured(f"/{path} can be read by root only") from error
        except OSError as error:
            raise NotMeasured(f"/{path} cannot be read ({error.strerror})") from error

    def number(self, path: str) -> int:
        """A file that holds one whole number."""
        text = self.text(path)
        try:
            return int(text)
        except ValueError as error:
            raise NotMeasured(f"/{path} holds no number") from error

    def paths(self, pattern: str) -> list[str]:
        """What fits a glob pattern, sorted with numbers as numbers: thermal_zone2 before thermal_zone10."""
        try:
            found = [str(path.relative_to(self.root)) for path in self.root.glob(pattern)]
        except OSError:  # a folder that only root may list
            return []
        return sorted(found, key=lambda path: [int(p) if p.isdigit() else p for p in _pieces(path)])

    def has(self, path: str) -> bool:
        return os.path.lexists(self.root / path)

    def run(self, *command: str, timeout: float = TIMEOUT) -> str:
        """What a program prints; never an exception but NotMeasured, and never longer than `timeout` seconds."""
        with self.start(*command) as process:
            try:
                output, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired as error:
                kill(process)
                raise NotMeasured(f"{command[0]} did not answer within {timeout:g} s") from error
            except BaseException:  # Ctrl-C
                kill(process)
                raise
        if process.returncode:
            raise NotMeasured(f"{command[0]} failed with exit code {process.returncode}")
        return str(output)

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """A program that goes on printing lines; whoever starts it ends it with `kill`."""
        program = self._find(command[0])
        try:
            return _Process(
                [program, *command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=os.environ | {"LC_ALL": "C"},
                start_new_session=True,  # its children end with it
            )
        except OSError as error:
            raise NotMeasured(f"{command[0]} cannot be started ({error.strerror})") from error

    def _find(self, name: str) -> str:
        folders = [str(self.root / folder) for folder in PROGRAMS]
        if self.root == Path("/"):
            folders = [*os.environ.get("PATH", "").split(os.pathsep), *folders]
        program = shutil.which(name, path=os.pathsep.join(folders))
        if program is None:
            raise NotMeasured(f"{name} is not there")
        return program


class _Process(subprocess.Popen[str]):
    """Leaving the block does not wait: a process that hangs in a driver cannot be killed, and must not hang us."""

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdout, self.stderr, self.stdin):
            if stream:
                stream.close()
        self.poll()


def kill(process: "subprocess.Popen[str]") -> None:
    """End a program and its children; wait a moment, not for ever."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _pieces(path: str) -> list[str]:
    """thermal_zone10/temp: ["thermal_zone", "10", "/temp"]; texts and numbers always alternate."""
    pieces, digits = [""], False
    for letter in path:
        if letter.isdigit() != digits:
            pieces.append("")
            digits = not digits
        pieces[-1] += letter
    return pieces
