"""Two passages for a first run without microphone and files: a recording, and the same words by a synthesizer.

    python -m runtime.stream --demo --realtime
    samples = passages(rate=16_000)                        # {"real": (n,) float32, "fake": ...}

README.md in this folder names their sources and licences.
"""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from runtime.audio.decode import load
from runtime.audio.features import Samples
from runtime.sources import Block
from runtime.sources.file import FileSource, paced
from runtime.support.shutdown import Stop

NAME = "demo"
NOTES = {
    "real": "a recording, read for LibriVox: bonafide is right",
    "fake": "the same words by the synthesizer Flite: spoof is right",
}
PAUSE = 0.8  # s of zeros between both: no muted microphone yet
FOLDER = Path(__file__).parent


def passages(rate: int) -> dict[str, Samples]:
    """Decode both passages: real and fake, (n,) each."""
    return {passage: load(FOLDER / f"{passage}.flac", rate).samples for passage in NOTES}


class DemoSource:
    """Both passages as one source: as fast as possible, or in real time."""

    def __init__(self, rate: int, stop: Stop, realtime: bool = False) -> None:
        self.name, self.live = NAME, realtime
        self._rate, self._stop = rate, stop

    def __iter__(self) -> Iterator[Block]:
        for number, (passage, note) in enumerate(NOTES.items()):
            if number:
                yield from paced(np.zeros(round(PAUSE * self._rate), np.float32), self._rate, self._stop, self.live)
            if self._stop.requested:
                return
            yield Block(np.empty(0, np.float32), time.monotonic(), note=note)
            with closing(FileSource(FOLDER / f"{passage}.flac", self._rate, self._stop, self.live)) as source:
                yield from source

    def close(self) -> None:
        """Do nothing: no resource is held."""
