"""A service in a process of its own, and its clients."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.test_commands import ENVIRONMENT
from tests.test_house import ROOT

Line = dict[str, Any]


class Served(NamedTuple):
    """A running service."""

    url: str
    process: subprocess.Popen[str]

    def stream(self, query: str = "", **options: Any) -> ClientConnection:
        address = self.url.replace("http", "ws", 1) + f"/v1/stream?{query}"
        return connect(address, max_size=None, open_timeout=60, **options)

    def metric(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics", timeout=30).text
        return sum(float(value) for value in re.findall(rf"(?m)^{name}(?:{{.*}})? (\S+)$", text))


@contextmanager
def serving(*words: str) -> Iterator[Served]:
    """Start the command, wait until it serves, and end it."""
    command = [sys.executable, "-m", "runtime.serve", "--port", "0", *words]
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            log = ""
            for line in process.stderr:
                log += line
                if found := re.search(r"serving on (\S+)", line):
                    yield Served(found[1], process)
                    break
            else:
                raise AssertionError(log)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def pcm(sound: np.ndarray) -> bytes:
    """Float samples as s16le."""
    return (np.clip(sound, -1, 1 - 2**-15) * 2**15).round().astype("<i2").tobytes()


def lines(socket: ClientConnection) -> list[Line]:
    """All lines until the service closes the socket."""
    found = []
    with suppress(ConnectionClosed):
        while True:
            found.append(json.loads(socket.recv(timeout=60)))
    return found


def comparable(line: Line) -> Line:
    """A line without its times and costs."""
    return {name: value for name, value in line.items() if name not in {"at", "cost", "latency_ms", "source", "live"}}
