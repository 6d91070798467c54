"""Features on disk, computed once: half precision, memory-mapped, in shards that stand or fall alone.

    cache = build_cache(frontend, trials, folder)
    cache.window(7, start=120)      # (600, bands) float16 of trial 7, a view into the map where the clip is long enough

A shard is a run of trials in protocol order. Its name is the hash of all that decides its content: the front-end, the
utterances and their files' sizes and times. So nothing stale is ever read, a killed run goes on with the shards that
stand, one changed file costs one shard, and two runs that share trials share shards.

    SHARD.f16     frames of all its clips, one after the other, (frames, bands) float16
    SHARD.json    written last: bytes of the above, frames per clip, and why clips were left out
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio import load
from runtime.errors import AudioError, ShrikeError
from runtime.features import FrontEnd
from runtime.files import whole_file
from train.corpus import Trial
from train.progress import Progress, say

VERSION = 1  # raise it when the front-end's numbers or the format change: old shards are then never found
SHARD_TRIALS = (64, 2048)  # least and most trials in a shard: small corpora still spread over all cores,
SHARDS_WANTED = 32  # and 600,000 trials make 293 shards, each an open file at most
SAMPLE = 16  # clips that are read first, to say how long it will take and how much it will be


@dataclass(frozen=True)
class Shard:
    """Trials that are computed and kept together."""

    name: str
    trials: tuple[Trial, ...]


class FeatureCache:
    """All clips of a partition that could be read, in protocol order. Opening reads the small index files only."""

    def __init__(self, frontend: FrontEnd, folder: Path, shards: Sequence[Shard]) -> None:
        self.frontend = frontend
        self.trials: list[Trial] = []
        self.skipped: dict[str, str] = {}  # utterance -> why
        self.notes: dict[str, int] = {}  # what was done to how many clips
        places: list[tuple[int, int, int]] = []  # (shard, first frame, frames)
        for number, shard in enumerate(shards):
            index = read_index(folder, shard, frontend)
            if index is None:
                raise ShrikeError(f"{folder / shard.name}.f16 was changed while it was being opened; run again")
            first = 0
            for trial, frames in zip(shard.trials, index["frames"], strict=True):
                if frames:
                    self.trials.append(trial)
                    places.append((number, first, frames))
                    first += frames
            self.skipped.update(index["skipped"])
            for note, count in index["notes"].items():
                self.notes[note] = self.notes.get(note, 0) + count
        self._paths = [folder / f"{shard.name}.f16" for shard in shards]
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def identity(self) -> str:
        """sha256 over the shards' names, which are hashes themselves: of the front-end, the clips and their files."""
        return hashlib.sha256("".join(path.stem for path in self._paths).encode()).hexdigest()

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of every clip, (n,)."""
        return self._places[:, 2]

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """1 for bona fide, 0 for spoof, -1 where the protocol has no label, (n,)."""
        return np.array([-1 if t.bonafide is None else int(t.bonafide) for t in self.trials], np.int64)

    def starts(self, clip: int, mean: bool = False) -> NDArray[np.int64]:
        """First frames of the windows that score a clip: the first one, or all that overlap by half, to its end."""
        width = self.frontend.width
        room = max(int(self.lengths[clip]) - width, 0) if mean else 0
        return np.arange(0, room + width // 2, width // 2).clip(max=room)

    def window(self, clip: int, start: int = 0) -> NDArray[np.float16]:
        """600 frames of a clip from `start`; a shorter clip repeats its frames: (width, bands)."""
        shard, first, frames = self._places[clip]
        stored = _map(self._paths[shard], self.frontend.bands)
        width = self.frontend.width
        if frames >= width:
            return stored[first + start : first + start + width]
        return stored[first + np.arange(start, start + width) % frames]


@lru_cache(maxsize=512)  # a map holds a file descriptor, and many systems allow 1024
def _map(path: Path, bands: int) -> NDArray[np.float16]:
    return np.memmap(path, np.float16, "r").reshape(-1, bands)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def build_cache(
    frontend: FrontEnd, trials: Sequence[Trial], folder: Path, processes: int = 0, quiet: bool = False
) -> FeatureCache:
    """Compute what is missing, say what was left out and why, and open the rest."""
    folder = folder.expanduser()
    shards = plan_shards(frontend, trials)
    missing = [shard for shard in shards if read_index(folder, shard, frontend) is None]
    if missing:
        processes = processes or cores()
        _estimate(frontend, [trial for shard in missing for trial in shard.trials], folder, processes)
        _compute_all(frontend, missing, folder, processes)
    cache = FeatureCache(frontend, folder, shards)
    if not quiet:
        _report(cache)
    if not len(cache):
        raise ShrikeError(f"none of {len(trials)} clips could be used; the reasons stand above")
    return cache


def plan_shards(frontend: FrontEnd, trials: Sequence[Trial]) -> list[Shard]:
    """Cut the trials into shards and name each by all that decides its content."""
    least, most = SHARD_TRIALS
    size = min(most, max(least, -(-len(trials) // SHARDS_WANTED)))
    spectrum = {name: value for name, value in frontend.to_dict().items() if name not in ("level", "width")}
    shards = []
    for start in range(0, len(trials), size):
        part = tuple(trials[start : start + size])
        identity = hashlib.sha256(json.dumps([VERSION, spectrum], sort_keys=True).encode())
        for trial in part:
            identity.update(f"\n{trial.utterance}\t{_file_identity(trial.path)}".encode())
        shards.append(Shard(identity.hexdigest()[:32], part))
    return shards


def _file_identity(path: Path | None) -> str:
    try:
        found = os.stat(path or "")
    except OSError:
        return "missing"
    return f"{found.st_size}\t{found.st_mtime_ns}"


def read_index(folder: Path, shard: Shard, frontend: FrontEnd) -> dict[str, Any] | None:
    """The shard's index, or None where it is absent, damaged, or its data file is not as long as it says."""
    try:
        index = json.loads((folder / f"{shard.name}.json").read_text("utf-8"))
        size = (folder / f"{shard.name}.f16").stat().st_size
    except (OSError, ValueError):
        return None
    frames = index.get("frames", [])
    whole = len(frames) == len(shard.trials) and size == index.get("bytes") == 2 * frontend.bands * sum(frames)
    if not whole:
        say(f"cache: {shard.name}.f16 has {size:,} bytes where {index.get('bytes'):,} belong; it is made again")
    return index if whole else None


def compute_shard(frontend: FrontEnd, shard: Shard, folder: Path) -> int:
    """Read, transform and write one shard; whatever is wrong with a clip becomes a sentence in the index."""
    frames: list[int] = []
    skipped: dict[str, str] = {}
    notes: dict[str, int] = {}
    with whole_file(folder / f"{shard.name}.f16") as temporary, open(temporary, "wb") as out:
        for trial in shard.trials:
            try:
                clip = load(trial.path or "", frontend.rate)
                values = frontend.frames(clip.samples)
                if not len(values):
                    least = 1000 * frontend.window / frontend.rate
                    raise AudioError(f"shorter than one analysis window ({least:.0f} ms)")
            except AudioError as error:
                skipped[trial.utterance] = str(error)
                frames.append(0)
                continue
            for note in clip.notes:
                notes[note] = notes.get(note, 0) + 1
            values.astype(np.float16).tofile(out)
            frames.append(len(values))
    index = {"bytes": 2 * frontend.bands * sum(frames), "frames": frames, "skipped": skipped, "notes": notes}
    with whole_file(folder / f"{shard.name}.json") as temporary:
        temporary.write_text(json.dumps(index), "utf-8")
    return len(shard.trials)


def _compute_all(frontend: FrontEnd, shards: list[Shard], folder: Path, processes: int) -> None:
    total = sum(len(shard.trials) for shard in shards)
    with Progress(f"features ({frontend.bands} bands)", total, "clips") as progress:
        if processes == 1 or len(shards) == 1:
            for shard in shards:
                progress.advance(compute_shard(frontend, shard, folder))
            return
        # spawn: a forked child of a process that already runs threads (BLAS, CUDA) can hang
        with ProcessPoolExecutor(min(processes, len(shards)), get_context("spawn")) as pool:
            work = [pool.submit(compute_shard, frontend, shard, folder) for shard in shards]
            try:
                for done in as_completed(work):
                    progress.advance(done.result())
            except BrokenProcessPool as error:
                raise ShrikeError(
                    "a process that read audio was ended (out of memory?); what is finished is kept: run again to go on"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _estimate(frontend: FrontEnd, trials: list[Trial], folder: Path, processes: int) -> None:
    """Read a few clips spread over the list; say size and time, and stop before a disk that is too small is filled."""
    sample = [trials[i] for i in np.linspace(0, len(trials) - 1, min(SAMPLE, len(trials))).astype(int)]
    start, frames = time.perf_counter(), 0
    for trial in sample:
        try:
            frames += len(frontend.frames(load(trial.path or "", frontend.rate).samples))
        except AudioError:
            continue  # it will be reported with all the others
    seconds = (time.perf_counter() - start) * len(trials) / len(sample) / processes
    size = 2.0 * frontend.bands * frames * len(trials) / len(sample)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    say(
        f"features of {len(trials):,} clips: about {_bytes(size)} in {folder} ({_bytes(free)} free), "
        f"about {_time(seconds)} with {processes} processes"
    )
    if size > free:
        raise ShrikeError(
            f"{folder} has {_bytes(free)} free and about {_bytes(size)} are needed; choose another --cache"
        )


def _report(cache: FeatureCache) -> None:
    for note, count in sorted(cache.notes.items()):
        say(f"  {count:,} clips: {note}")
    reasons: dict[str, list[str]] = {}
    for utterance, reason in cache.skipped.items():
        reasons.setdefault(reason, []).append(utterance)
    for reason, names in sorted(reasons.items()):
        more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
        say(f"  {len(names):,} clips left out: {reason} ({', '.join(names[:3])}{more})")


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
