"""`--keep-evidence DIR`: keep the last 10 s of sound before every change to spoof.

    store = EvidenceStore(Path("evidence"), megabytes=500, say)
    sink = EvidenceSink(store)                          # one for each source

    evidence/shrike-20261126T074449Z-0-call.wav.flac    mono, 16 bits, 16 kHz; the JSON line as its comment

Files appear whole or not at all. When they exceed the limit, the oldest files of this pattern are removed; other files
in the folder stay. A full disk ends keeping, not the stream. Encoding and writing happen on a thread of their own.
"""

import os
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.audio.features import Samples
from runtime.sinks import StreamInfo
from runtime.sinks.changes import DEBOUNCE, ChangeSink, StateChange
from runtime.support.atomic import atomic_file, temporary_name, write_problem
from runtime.support.background import BackgroundQueue
from runtime.support.errors import ShrikeError
from runtime.support.wall_clock import utc_compact

SECONDS = 10.0  # of sound before a change, and including it
LEAST_MEGABYTES, MOST_MEGABYTES = 1.0, 1e6  # 10^6 bytes; the least holds three passages of noise
MOST = 16  # passages that wait for the disk, 0.6 MB each
FLUSH = 5.0  # s that the end of the stream waits for the disk
LONGEST_NAME = 60  # characters of the source in a file's name
OURS = re.compile(r"shrike-\d{8}T\d{6}Z-\d+-.*\.flac")


@dataclass(frozen=True)
class Passage:
    """Sound that led to a change."""

    change: StateChange
    samples: Samples  # (n,)
    rate: int  # Hz


class EvidenceStore:
    """A folder of passages, limited in size; several sources may share it."""

    def __init__(self, folder: Path, megabytes: float, say: Callable[[str], None]) -> None:
        check_limit(megabytes)
        self._folder, self._limit, self._say = folder, int(1e6 * megabytes), say
        self._number = 0
        self.failed = False  # whether a passage was lost
        self._queue = BackgroundQueue("--keep-evidence", self._write, MOST, self._stop)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = temporary_name(folder / "probe")  # removes what killed runs have left
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ShrikeError(f"--keep-evidence {folder}: cannot be written ({error.strerror})") from error

    def keep(self, passage: Passage) -> None:
        """Queue a passage."""
        if not self.failed:
            self._queue.put(passage)

    def close(self) -> None:
        """Wait a few seconds for the disk."""
        left = self._queue.close(FLUSH)
        if left and not self.failed:
            self._stop(f"{left} passages were not written in time")

    def _write(self, passage: Passage) -> None:
        if self.failed:
            return
        name = f"shrike-{utc_compact()}-{self._number}-{sanitised(passage.change.source)}.flac"
        self._number += 1
        try:
            with atomic_file(self._folder / name) as temporary:
                _encode(temporary, passage)
                self._make_room(temporary.stat().st_size)
        except (OSError, ShrikeError) as error:
            self._stop(write_problem(error, self._folder))

    def _make_room(self, size: int) -> None:
        """Remove the oldest passages until another one of that size keeps the limit."""
        files = []
        for entry in os.scandir(self._folder):
            if OURS.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                files.append((status.st_mtime_ns, entry.name, status.st_size))
        total = size + sum(size for _, _, size in files)
        for _, name, size in sorted(files):
            if total <= self._limit:
                return
            with suppress(FileNotFoundError):  # somebody else tidies up as well
                (self._folder / name).unlink()
            total -= size

    def _stop(self, reason: str) -> None:
        self.failed = True
        self._say(f"--keep-evidence {self._folder}: {reason}; no more sound is kept, scoring goes on")


class EvidenceSink(ChangeSink):
    """Holds the last seconds of one source."""

    def __init__(self, store: EvidenceStore, debounce: float = DEBOUNCE) -> None:
        super().__init__([self._keep], debounce)
        self._store = store

    def begin(self, info: StreamInfo) -> None:
        super().begin(info)
        self._rate = info.rate
        self._blocks: deque[Samples] = deque()
        self._kept = 0  # samples in all blocks
        self._position = 0  # of the sample after the last block; lost samples count, as in a verdict's time

    def sound(self, samples: Samples) -> None:
        if not len(samples):
            return
        self._blocks.append(samples)
        self._kept += len(samples)
        self._position += len(samples)
        needed = round(SECONDS * self._rate) + len(samples)  # a verdict may fall on the block's first sample
        while self._kept - len(self._blocks[0]) >= needed:
            self._kept -= len(self._blocks.popleft())

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        super().gap(time, lost, restarted)
        self._position = round(time * self._rate)

    def _keep(self, change: StateChange) -> None:
        if change.state == "spoof":
            self._store.keep(Passage(change, self._until(change.t), self._rate))

    def _until(self, time: float) -> Samples:
        """The last seconds of sound up to a time; sound before and after a gap stand side by side."""
        sound = np.concatenate([np.empty(0, np.float32), *self._blocks])
        later = max(0, self._position - round(time * self._rate))
        end = max(0, len(sound) - later)
        return sound[max(0, end - round(SECONDS * self._rate)) : end]


def check_limit(megabytes: float) -> None:
    """Refuse a limit that could hold no passage."""
    if not LEAST_MEGABYTES <= megabytes <= MOST_MEGABYTES:
        raise ShrikeError(f"--evidence-mb {megabytes:g}: expected {LEAST_MEGABYTES:g} to {MOST_MEGABYTES:,.0f} MB")


def _encode(path: Path, passage: Passage) -> None:
    import soundfile

    try:
        with soundfile.SoundFile(str(path), "w", passage.rate, 1, "PCM_16", format="FLAC") as sound:
            sound.comment = passage.change.body().decode()
            sound.write(np.clip(passage.samples, -1.0, 1.0))
    except (RuntimeError, AssertionError) as error:  # libsndfile's; fewer samples written than asked
        raise ShrikeError(write_problem(error, path.parent)) from error  # while the file still fills the disk


def sanitised(source: str) -> str:
    """A source's name as a part of a file's name: letters, digits, dots, dashes."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", Path(source).name).strip("._-")[:LONGEST_NAME] or "source"
