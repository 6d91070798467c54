"""Kill a service with -9 under load, and start it again: `shrike serve`.

    python -m scripts.serve_restart --streams 24 --seconds 15

Starts a service of its own. Every client sends in real time, and connects again when its stream is cut, until the
service is back. docs/serve.md has the result.
"""

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import psutil

from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from scripts.serve_stress import PACE, SETTLING, Stressed, dial, stream


@dataclass(frozen=True)
class Options:
    """Kill a service under load and start it again."""

    port: int = 8766
    """Port of the service."""
    streams: int = 24
    """Sockets at once."""
    seconds: float = 15.0
    """Seconds that the clients send; the kill comes after a third of them."""


@dataclass
class Restarted:
    """Clients of a service that was killed."""

    cut: int = 0  # streams that were open then, and failed
    back: list[float] = field(default_factory=list)  # s from the kill until connected again
    ended: int = 0  # clients with a summary of the second stream
    left: int = 0  # child processes of the killed service that outlived it

    def line(self) -> str:
        p50, most = np.quantile(self.back, (0.5, 1.0)) if self.back else (np.nan, np.nan)
        back = f"{len(self.back)} connected again {p50:.1f} s (p50) and at most {most:.1f} s after it"
        return (
            f"kill -9: {self.cut} streams cut, {back}, {self.ended} ended, {self.left} processes outlived the service"
        )


async def kill_and_restart(port: int, streams: int, seconds: float) -> Restarted:
    """Kill a service after a third of the time; each client connects again until it is back."""
    result = Restarted()
    command = [sys.executable, "-m", "runtime.serve", "--port", str(port), "--max-streams", str(streams)]

    async def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            with suppress(OSError), dial(port, 1.0):
                return process
            await asyncio.sleep(0.05)
        raise ShrikeError(f"--port {port}: the service does not start; is the port taken?")

    async def client(number: int) -> None:
        ends = time.monotonic() + seconds
        while (left := ends - time.monotonic()) > PACE:
            found = Stressed([])
            await stream(port, number, streams, left, found)
            if found.opened and found.opened[0] > killed[0]:
                result.back.append(found.opened[0] - killed[0])
                result.ended += found.ended
            elif found.opened:
                result.cut += found.failed
            await asyncio.sleep(0.1)

    killed = [np.inf]
    service = await start()
    try:
        clients = asyncio.gather(*map(client, range(streams)))
        await asyncio.sleep(seconds / 3)
        family = psutil.Process(service.pid).children(recursive=True)
        service.kill()
        killed[0] = time.monotonic()
        service.wait()
        service = await start()
        await clients
        result.left = sum(one.is_running() for one in family)
    finally:
        service.terminate()
        service.wait()
    return result


def main() -> int:
    options = parse(Options, "scripts.serve_restart", __doc__)
    if options.streams < 1 or options.seconds < 4 * SETTLING:
        raise ShrikeError(f"--streams and --seconds: expected 1 or more, and at least {4 * SETTLING:g} s")
    print(asyncio.run(kill_and_restart(options.port, options.streams, options.seconds)).line())
    return 0


if __name__ == "__main__":
    run(main)
