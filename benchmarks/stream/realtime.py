"""One session of the runtime over a microphone in real time.

Only the sound card is simulated. Callback, bounded queue and resampler are the product's, so sound that a slow machine
loses is lost and counted here as well. A verdict has two latencies: `spoken` counts from the moment its newest sample
was spoken, `arrived` from the moment that sample's block of 20 ms was delivered.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.report import Cell, Table
from runtime.audio.decode import load
from runtime.audio.features import RATE, Samples
from runtime.engines.model_loader import LoadedModel
from runtime.session import Session, VerdictOptions
from runtime.sinks import Sink
from runtime.sinks.jsonl import JsonLines
from runtime.sources import Block
from runtime.sources.demo import passages
from runtime.sources.file import paced
from runtime.sources.microphone import Microphone
from runtime.summary import Summary
from runtime.support.shutdown import Stop
from runtime.verdict import Verdict
from train.data.corpus import open_corpus

SHARES = (50, 95, 99)  # percentiles of a latency
CLIP_GAP = 0.4  # s of silence between clips of a corpus
CARD_RATE = 48_000  # Hz of the simulated sound card
LINGER = 1.0  # s after the last block in which the queue is still scored; a Microphone waits for 2


def sound(corpus: Sequence[Path], seconds: float, seed: int = 0, partition: str = "dev") -> Samples:
    """Clips of the first corpus in random order with pauses, or the demo's passages; repeated to the length."""
    wanted = round(seconds * RATE)
    if not corpus:
        return np.resize(np.roll(np.concatenate([*passages(RATE).values()]), 7919 * seed), wanted)
    paths, parts = [trial.path for trial in open_corpus(corpus[0], partition).trials if trial.path], list[Samples]()
    for place in np.random.default_rng(seed).permutation(len(paths)):
        if sum(map(len, parts)) < wanted:
            parts += [load(paths[place], RATE).samples, np.zeros(int(CLIP_GAP * RATE), np.float32)]
    return np.resize(np.concatenate(parts), wanted)


class ArraySource:
    """An array as a source, as fast as it is scored, repeated or cut to `size` samples."""

    name, live = "array", False

    def __init__(self, samples: Samples, rate: int, stop: Stop, size: int | None = None) -> None:
        self._samples, self._rate, self._stop, self._size = samples, rate, stop, size or len(samples)

    def __iter__(self) -> Iterator[Block]:
        for start in range(0, self._size, len(self._samples)):
            yield from paced(self._samples[: self._size - start], self._rate, self._stop, live=False)

    def close(self) -> None:
        """Hold nothing."""


class SoundCard:
    """The part of the package sounddevice that Microphone uses, and its one stream: samples at their own pace."""

    PortAudioError, active = RuntimeError, True

    def __init__(self, samples: Samples, rate: int, stop: Stop) -> None:
        self.samples, self.rate, self._stop = samples, rate, stop
        self.began = 0.0  # s of time.monotonic() at the first sample
        self.delivered = 0  # samples
        self.finished = False  # all blocks were delivered

    def query_devices(self, device: Any = None, kind: str | None = None) -> dict[str, Any]:
        return {"index": 0, "name": "simulated", "max_input_channels": 1, "default_samplerate": float(self.rate)}

    def InputStream(self, samplerate: int, channels: int, blocksize: int, callback: Any, **_: Any) -> "SoundCard":  # noqa: N802 - sounddevice's name
        if samplerate != self.rate or channels != 1:
            raise self.PortAudioError(f"{samplerate} Hz in {channels} channels")
        self._thread = threading.Thread(target=self._play, args=(callback,), daemon=True)
        return self

    def start(self) -> None:
        self._thread.start()

    def abort(self, **_: Any) -> None:
        """Leave the thread to end when stop is requested."""

    def close(self, **_: Any) -> None:
        self._thread.join()

    def _play(self, callback: Callable[..., None]) -> None:
        self.began = time.monotonic()
        for block in paced(self.samples, self.rate, self._stop, live=True):
            size = len(block.samples)
            callback(block.samples[:, None], size, None, SimpleNamespace(input_overflow=False))
            self.delivered += size
        if self._stop.requested:
            return
        self.finished = True
        time.sleep(LINGER)
        self._stop.request()


class VerdictList(Sink):
    """Stores every verdict, when it came, and its latency; placed behind the sink that writes them."""

    def __init__(self) -> None:
        self.verdicts, self.timed = list[Verdict](), list[tuple[float, float, float]]()  # s

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self.verdicts.append(replace(verdict, quality=replace(verdict.quality, spectrum=np.empty(0))))
        if latency is not None:  # of the last one, at the end of the sound, there is none
            self.timed.append((verdict.time, time.monotonic(), latency))


@dataclass(frozen=True)
class RealTime:
    """A run in real time."""

    spoken_ms: list[float]  # of every verdict
    arrived_ms: list[float]
    sent: float  # s of sound that the card delivered
    unscored: float  # s that were still in queue and resampler at the end
    summary: Summary


def in_real_time(
    model: LoadedModel, samples: Samples, seconds: float, rate: int = CARD_RATE, step: int | None = None
) -> RealTime:
    """The real microphone on a simulated sound card of that rate."""
    import soxr

    spoken = samples[: round(seconds * RATE)]
    spoken = spoken if rate == RATE else soxr.resample(spoken, RATE, rate, quality="HQ")
    with Stop() as stop, open(os.devnull, "w") as nowhere:
        card, found = SoundCard(spoken, rate, stop), VerdictList()
        sinks = [JsonLines(nowhere), found]
        session = Session(model, sinks, VerdictOptions(step=step))
        with closing(Microphone(None, model.card.frontend.rate, stop, card)) as source:
            summary = session.run(source, stop)
        if not card.finished:
            raise KeyboardInterrupt
    spoken_ms = [1000 * (came - card.began - newest) for newest, came, _ in found.timed]
    arrived_ms, sent = [1000 * latency for _, _, latency in found.timed], card.delivered / rate
    return RealTime(spoken_ms, arrived_ms, sent, max(0.0, sent - summary.seconds - summary.lost), summary)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """That many processes of pure work beside this one."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


# ---- tables


def live_table(live: Mapping[str, RealTime]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name, one in live.items():
        row: dict[str, Cell] = {"condition": name, "verdicts": one.summary.verdicts}
        for kind, values in (("spoken", one.spoken_ms), ("arrived", one.arrived_ms)):
            row |= {f"{kind} p{share}": float(np.percentile(values, share)) for share in SHARES if values}
        row |= {"lost": 1000 * one.summary.lost, "gaps": one.summary.gaps, "unscored": 1000 * one.unscored}
        rows.append(row | {"CPU": 100 * one.summary.cost.core, "memory": one.summary.cost.resident_mb})
    about = "From the newest sample being spoken, and its block being delivered, to the verdict being written."
    columns = (
        "condition*; verdicts; spoken p50, ms < .1; spoken p95, ms < .1; spoken p99, ms < .1; arrived p50, ms < .1; "
        "arrived p95, ms < .1; arrived p99, ms < .1; lost, ms < .0; gaps <; unscored, ms < .0; CPU, % of a core < .1; "
        "memory, MB < .0"
    )
    return Table.of("real-time", "Real time", about, columns, rows)
