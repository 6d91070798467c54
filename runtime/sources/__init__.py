"""Sources of sound. Iterate a source to get blocks; gaps and flags travel with them.

    for block in source:
        block.samples        # (n,) float32, mono, at the model's rate; empty while no sound arrives
        block.lost           # s that are missing before it

file.py decodes sound files, pcm.py reads raw samples from a pipe, microphone.py records with PortAudio, demo
plays a recording and a fake.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from runtime.audio.features import Samples


@dataclass(frozen=True)
class Block:
    """A piece of sound with its time of arrival and its faults."""

    samples: Samples  # (n,)
    arrived: float  # s of time.monotonic(), of its newest sample
    lost: float = 0.0  # s of sound missing before its first sample
    invalid: int = 0  # samples that were NaN or infinite and became 0
    note: str = ""  # a sentence for the user: unplugged, opened again, overflowed
    flags: tuple[str, ...] = ()  # keys of runtime.audio.quality.FLAGS that the source found


def idle_block(note: str = "") -> Block:
    """A block without sound, so that sinks go on."""
    return Block(np.empty(0, np.float32), time.monotonic(), note=note)


class SourceInfo(Protocol):
    """The part of a source that verdicts report."""

    name: str
    live: bool  # true: sound comes at its own pace, so that verdicts have a latency
    # A source of one channel of several names it in `channel`.


class Source(SourceInfo, Protocol):
    """Iterate it once, from one thread; close() releases it."""

    def __iter__(self) -> Iterator[Block]: ...

    def close(self) -> None: ...
