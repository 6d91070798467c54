"""Load and attack a service that runs: `shrike serve`.

    shrike serve --max-streams 600 &
    python -m scripts.serve_stress --streams 40 --seconds 60
    python -m scripts.serve_stress --attacks

Load: that many sockets at real-time pace, messages of 20 ms, spread evenly. Lateness is the time from sending the
message with a verdict's last sample to receiving the verdict. Attacks: what strangers try; each prints one line, and a
real call is scored after each. docs/serve.md has the results.
"""

import asyncio
import json
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from urllib.request import urlopen

import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from runtime.audio.features import RATE
from runtime.sources.demo import passages
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

PACE = 0.02  # s of sound in one message
SETTLING = 2.0  # s that are not counted
STREAM = "GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"


@dataclass(frozen=True)
class Options:
    """Load or attack a service on this machine."""

    port: int = 8765
    """Port of the service."""
    streams: int = 40
    """Sockets at once."""
    seconds: float = 60.0
    """Seconds of sound that each sends."""
    attacks: bool = False
    """Attack instead."""


@dataclass
class Stressed:
    """The results of all sockets."""

    late: list[float]  # s, of every verdict after SETTLING
    lost: float = 0.0  # s
    ended: int = 0  # sockets with a summary
    failed: int = 0
    opened: list[float] = field(default_factory=list)  # times of connections


@cache
def sound_of_calls() -> np.ndarray:
    """Both passages of the demo, s16le."""
    return (np.concatenate([*passages(RATE).values()]) * 32767).astype("<i2")


async def stream(port: int, number: int, count: int, seconds: float, found: Stressed) -> None:
    """Run one socket."""
    sending = None
    size = round(PACE * RATE)
    sound = np.roll(sound_of_calls(), -number * 7919)
    sent: list[float] = []
    try:
        async with connect(
            f"ws://127.0.0.1:{port}/v1/stream?name={number}", open_timeout=60, compression=None
        ) as opened:
            found.opened.append(time.monotonic())

            async def send() -> None:
                began = time.monotonic() + PACE * number / count
                for block in range(round(seconds / PACE)):
                    await asyncio.sleep(max(0.0, began + (block + 1) * PACE - time.monotonic()))
                    start = block * size % (len(sound) - size)
                    sent.append(time.monotonic())
                    await opened.send(sound[start : start + size].tobytes())
                await opened.send('{"type": "end"}')

            sending = asyncio.create_task(send())
            async for text in opened:
                line = json.loads(text)
                if line["type"] == "verdict" and line["t"] > SETTLING and line["t"] < seconds - PACE:
                    found.late.append(time.monotonic() - sent[int(np.ceil(line["t"] / PACE - 1e-6)) - 1])
                elif line["type"] == "gap":
                    found.lost += line["lost"]
                found.ended += line["type"] == "summary"
            await sending
    except (OSError, WebSocketException):
        found.failed += 1
    finally:
        if sending:
            sending.cancel()


async def load(port: int, streams: int, seconds: float) -> Stressed:
    """Run all sockets at once."""
    found = Stressed([])
    await asyncio.gather(*(stream(port, number, streams, seconds, found) for number in range(streams)))
    return found


# ---------------------------------------------------------------- attacks


def dial(port: int, timeout: float = 30.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout)


def ended(client: socket.socket) -> bool:
    """True if the service closes the connection, with or without an answer."""
    try:
        while client.recv(65_536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def slow_headers(port: int, count: int = 200) -> str:
    """Open connections that never complete a header."""
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(port)) for _ in range(count)]
        for client in clients:
            client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        closed = sum(map(ended, clients))
    return f"{closed} of {count} slow headers closed within {time.monotonic() - began:.0f} s"


def slow_body(port: int) -> str:
    """Send a body of a byte a second."""
    with dial(port) as client:
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        began, answer = time.monotonic(), b""
        client.settimeout(1.0)
        while not answer and time.monotonic() - began < 60:
            client.sendall(b"x")
            with suppress(TimeoutError):
                answer = client.recv(4096)
    return f"a slow body is answered {status(answer)} after {time.monotonic() - began:.0f} s"


def large_body(port: int, size: int = 2**31) -> str:
    """Upload 2 GB in chunks, without stating the length."""
    sent, part = 0, b"10000\r\n" + bytes(65_536) + b"\r\n"
    with dial(port) as client:
        client.sendall(b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        with suppress(OSError):
            while sent < size:
                client.sendall(part)
                sent += 65_536
        answer = b""
        with suppress(OSError):
            answer = client.recv(4096)
    return f"an upload of {size / 1e9:.1f} GB ends after {sent / 1e6:.0f} MB {status(answer)}".rstrip()


def half_closed(port: int, count: int = 100) -> str:
    """Close the sending half of streams and requests."""
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(port)) for _ in range(count)]
        for number, client in enumerate(clients):
            client.sendall((STREAM + KEY if number % 2 else "POST /v1/score HTTP/1.1\r\nHost: localhost\r\n").encode())
            if number % 2:
                client.recv(4096)
            client.shutdown(socket.SHUT_WR)
        return f"{sum(map(ended, clients))} of {count} half-closed sockets closed"


def garbage_frames(port: int, count: int = 100) -> str:
    """Send bytes that are no frames, frames without a mask, reserved opcodes, and lengths of 2^62."""
    rng, closed = np.random.default_rng(0), 0
    starts = [b"", b"\x82\x05hello", b"\x8b\x80\0\0\0\0", b"\x82\xff" + bytes([63]) + bytes(7) + bytes(4)]
    for number in range(count):
        with dial(port) as client:
            client.sendall((STREAM + KEY).encode())
            client.recv(4096)
            with suppress(OSError):
                client.sendall(starts[number % len(starts)] + rng.bytes(10_000))
            closed += ended(client)
    return f"{closed} of {count} sockets with garbage closed"


def many_connects(port: int, count: int = 10_000) -> str:
    """Connect, and close 200 connections later."""
    held: list[socket.socket] = []
    refused, began = 0, time.monotonic()
    for _ in range(count):
        try:
            held.append(dial(port, 10.0))
        except OSError:
            refused += 1
        if len(held) > 200:
            held.pop(0).close()
    for client in held:
        client.close()
    return f"{count:,} connects in {time.monotonic() - began:.0f} s, {refused} not accepted"


def idle_streams(port: int, count: int = 500) -> str:
    """Open streams that send nothing."""
    before = memory(port)
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(port)) for _ in range(count)]
        for client in clients:
            client.sendall((STREAM + KEY).encode())
        opened = sum(b" 101 " in client.recv(4096) for client in clients)
        time.sleep(2.0)
        used = memory(port) - before
        call = score(port)
    return f"{opened} of {count} idle streams open, {used:.0f} MB for them; meanwhile: {call}"


ATTACKS: tuple[Callable[[int], str], ...] = (
    slow_headers, slow_body, large_body, half_closed, garbage_frames, many_connects, idle_streams,
)  # fmt: skip


def status(answer: bytes) -> str:
    return answer.partition(b"\r\n")[0].decode(errors="replace").removeprefix("HTTP/1.1 ")


def memory(port: int) -> float:
    """Resident memory of the service in MB."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    return float(text.partition("\nprocess_resident_memory_bytes ")[2].split()[0]) / 1e6


def score(port: int) -> str:
    """Run a short stream, as a real caller does, who calls again where the service is full."""
    began = time.monotonic()
    while time.monotonic() - began < 60:
        if asyncio.run(load(port, 1, 1.0)).ended:
            return f"a call of 1 s is scored within {time.monotonic() - began:.1f} s"
        time.sleep(0.5)
    return "a call FAILS"


def main() -> int:
    options = parse(Options, "scripts.serve_stress", __doc__)
    if options.streams < 1 or options.seconds <= SETTLING:
        raise ShrikeError(f"--streams and --seconds: expected 1 or more, and more than {SETTLING:g} s")
    if options.attacks:
        before = memory(options.port)
        for attack in ATTACKS:
            print(f"{attack(options.port)}; then {score(options.port)}, {memory(options.port):.0f} MB", flush=True)
        print(f"{before:.0f} MB before all")
        return 0
    found = asyncio.run(load(options.port, options.streams, options.seconds))
    p50, p99 = 1000 * np.quantile(found.late, (0.5, 0.99)) if found.late else (np.nan, np.nan)
    print(
        f"{options.streams} streams, {options.seconds:g} s: {found.ended} ended, {found.failed} failed, "
        f"{len(found.late):,} verdicts, late p50 {p50:.0f} ms, p99 {p99:.0f} ms, {found.lost:.1f} s lost"
    )
    return 0


if __name__ == "__main__":
    run(main)
