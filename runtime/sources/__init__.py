"""Where sound comes from. A source is iterated and yields blocks; what was lost travels with them.

    for block in source:
        block.samples        # (n,) float32, mono, at the model's rate; may be empty: a sign of life
        block.lost           # s that are missing before it

file.py reads sound files, pcm.py raw samples from a pipe, microphone.py PortAudio; intake.py makes of all but files
what a block promises.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from runtime.audio.features import Samples


@dataclass(frozen=True)
class Block:
    """Some sound, when it was there, and what is wrong with it."""

    samples: Samples  # (n,)
    arrived: float  # s of time.monotonic(): when its newest sample was there
    lost: float = 0.0  # s of sound missing before its first sample
    invalid: int = 0  # samples that were no numbers and became 0
    note: str = ""  # a sentence for whoever watches: unplugged, opened again, overflowed


class SourceInfo(Protocol):
    """What verdicts say of where their sound came from."""

    name: str
    live: bool  # true: comes at its own pace, and there is a latency to speak of


class Source(SourceInfo, Protocol):
    """Iterate it once, from one thread; close() ends what it holds."""

    def __iter__(self) -> Iterator[Block]: ...

    def close(self) -> None: ...
