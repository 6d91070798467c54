"""Features, or decoded sound, on disk: computed once, memory-mapped, in shards that stand or fall alone.

    cache = build_cache(frontend, trials, folder)
    cache.window(7, start=120)      # (600, bands) float16 of trial 7, a view into the map where the clip is long enough
    cache = build_sound_cache(frontend, trials, folder)     # for training that changes the sound before the front-end
    cache.samples(7)                # (samples,) int16 of trial 7, a view into the map

A shard is a run of trials in protocol order. Its name is the hash of all that decides its content: the front-end (of
sound only the rate), the utterances and their files' sizes and times. So nothing stale is ever read, a killed run goes
on with the shards that stand, one changed file costs one shard, and two runs that share trials share shards.

    SHARD.f16     frames of all its clips, one after the other, (frames, bands) float16
    SHARD.s16     samples of all its clips, one after the other, (samples,) int16
    SHARD.json    written last: bytes of the above, frames (or samples) per clip, and why clips were left out
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.audio import load
from runtime.errors import AudioError, ShrikeError
from runtime.features import FrontEnd, Samples
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


@dataclass(frozen=True)
class Kind:
    """What a shard's rows are, and how a clip becomes rows."""

    title: str
    ending: str
    dtype: type[np.generic]
    columns: int  # values in a row
    identity: dict[str, Any]  # what decides the rows, beside the clip
    rate: int  # Hz, at which clips are read
    rows: Callable[[Samples], NDArray[Any]]  # (samples,) -> (rows, columns), in `dtype` or wider

    @property
    def row_bytes(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize


def feature_kind(frontend: FrontEnd) -> Kind:
    spectrum = {name: value for name, value in frontend.to_dict().items() if name not in ("level", "width")}
    title = f"features ({frontend.bands} bands)"
    return Kind(title, "f16", np.float16, frontend.bands, spectrum, frontend.rate, frontend.frames)


def sound_kind(rate: int) -> Kind:
    return Kind("sound", "s16", np.int16, 1, {"sound": "s16", "rate": rate}, rate, _to_int16)


def _to_int16(samples: Samples) -> NDArray[np.int16]:
    """Exact for 16-bit recordings at the front-end's rate; what exceeds full scale after resampling is clipped."""
    return np.clip(np.rint(samples * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)


class Cache:
    """All clips of a partition that could be read, in protocol order. Opening reads the small index files only."""

    def __init__(self, frontend: FrontEnd, kind: Kind, folder: Path, shards: Sequence[Shard]) -> None:
        self.frontend = frontend
        self.trials: list[Trial] = []
        self.skipped: dict[str, str] = {}  # utterance -> why
        self.notes: dict[str, int] = {}  # what was done to how many clips
        places: list[tuple[int, int, int]] = []  # (shard, first row, rows)
        for number, shard in enumerate(shards):
            index = read_index(folder, shard, kind)
            if index is None:
                data = folder / f"{shard.name}.{kind.ending}"
                raise ShrikeError(f"{data} was changed while it was being opened; run again")
            first = 0
            for trial, rows in zip(shard.trials, index["frames"], strict=True):
                if self._frames(rows):
                    self.trials.append(trial)
                    places.append((number, first, rows))
                elif trial.utterance not in index["skipped"]:
                    self.skipped[trial.utterance] = _too_short(frontend)
                first += rows
            self.skipped.update(index["skipped"])
            for note, count in index["notes"].items():
                self.notes[note] = self.notes.get(note, 0) + count
        self._paths = [folder / f"{shard.name}.{kind.ending}" for shard in shards]
        self._places = np.array(places, np.int64).reshape(-1, 3)

    def _frames(self, rows: int) -> int:
        """How many frames a clip with so many rows has."""
        return rows

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def identity(self) -> str:
        """sha256 over the shards' names, which are hashes themselves: of the front-end, the clips and their files."""
        return hashlib.sha256("".join(path.stem for path in self._paths).encode()).hexdigest()

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Frames of every clip, (n,)."""
        return np.array([self._frames(rows) for rows in self._places[:, 2].tolist()], np.int64)

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """1 for bona fide, 0 for spoof, -1 where the protocol has no label, (n,)."""
        return np.array([-1 if t.bonafide is None else int(t.bonafide) for t in self.trials], np.int64)

    def starts(self, clip: int, mean: bool = False) -> NDArray[np.int64]:
        """First frames of the windows that score a clip: the first one, or all that overlap by half, to its end."""
        width = self.frontend.width
        room = max(int(self.lengths[clip]) - width, 0) if mean else 0
        return np.arange(0, room + width // 2, width // 2).clip(max=room)


class FeatureCache(Cache):
    """Frames of every clip, ready for a network."""

    def window(self, clip: int, start: int = 0) -> NDArray[np.float16]:
        """600 frames of a clip from `start`; a shorter clip repeats its frames: (width, bands)."""
        shard, first, frames = self._places[clip]
        stored = _map(self._paths[shard], np.float16, self.frontend.bands)
        width = self.frontend.width
        if frames >= width:
            return stored[first + start : first + start + width]
        return stored[first + np.arange(start, start + width) % frames]


class SoundCache(Cache):
    """Samples of every clip that gives at least one frame: what is heard before the front-end."""

    def _frames(self, rows: int) -> int:
        return self.frontend.count(rows)

    def samples(self, clip: int) -> NDArray[np.int16]:
        """The whole clip, (samples,); full scale is 2^15."""
        shard, first, count = self._places[clip]
        return _map(self._paths[shard], np.int16, 1)[first : first + count, 0]


AnyCache = TypeVar("AnyCache", bound=Cache)


@lru_cache(maxsize=512)  # a map holds a file descriptor, and many systems allow 1024
def _map(path: Path, dtype: type[np.generic], columns: int) -> NDArray[Any]:
    return np.memmap(path, dtype, "r").reshape(-1, columns)


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


def build_cache(
    frontend: FrontEnd, trials: Sequence[Trial], folder: Path, processes: int = 0, quiet: bool = False
) -> FeatureCache:
    """Compute what is missing, say what was left out and why, and open the rest."""
    kind = feature_kind(frontend)
    folder, shards = _fill(kind, trials, folder, processes)
    return _opened(FeatureCache(frontend, kind, folder, shards), trials, quiet)


def build_sound_cache(
    frontend: FrontEnd, trials: Sequence[Trial], folder: Path, processes: int = 0, quiet: bool = False
) -> SoundCache:
    """The same for decoded sound: the same clips are left out, for the same reasons."""
    kind = sound_kind(frontend.rate)
    folder, shards = _fill(kind, trials, folder, processes)
    return _opened(SoundCache(frontend, kind, folder, shards), trials, quiet)


def _opened(cache: AnyCache, trials: Sequence[Trial], quiet: bool) -> AnyCache:
    if not quiet:
        _report(cache)
    if not len(cache):
        raise ShrikeError(
            f"none of {len(trials)} clips could be used; the reasons stand above, mend the files or the protocol"
        )
    return cache


def _fill(kind: Kind, trials: Sequence[Trial], folder: Path, processes: int) -> tuple[Path, list[Shard]]:
    folder = folder.expanduser()
    shards = plan_shards(kind, trials)
    missing = [shard for shard in shards if read_index(folder, shard, kind) is None]
    if missing:
        processes = processes or cores()
        _estimate(kind, [trial for shard in missing for trial in shard.trials], folder, processes)
        _compute_all(kind, missing, folder, processes)
    return folder, shards


def plan_shards(kind: Kind, trials: Sequence[Trial]) -> list[Shard]:
    """Cut the trials into shards and name each by all that decides its content."""
    least, most = SHARD_TRIALS
    size = min(most, max(least, -(-len(trials) // SHARDS_WANTED)))
    shards = []
    for start in range(0, len(trials), size):
        part = tuple(trials[start : start + size])
        identity = hashlib.sha256(json.dumps([VERSION, kind.identity], sort_keys=True).encode())
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


def read_index(folder: Path, shard: Shard, kind: Kind) -> dict[str, Any] | None:
    """The shard's index, or None where it is absent, damaged, or its data file is not as long as it says."""
    try:
        index = json.loads((folder / f"{shard.name}.json").read_text("utf-8"))
        size = (folder / f"{shard.name}.{kind.ending}").stat().st_size
    except (OSError, ValueError):
        return None
    frames = index.get("frames", [])
    whole = len(frames) == len(shard.trials) and size == index.get("bytes") == kind.row_bytes * sum(frames)
    if not whole:
        data = f"{shard.name}.{kind.ending}"
        say(f"cache: {data} has {size:,} bytes where {index.get('bytes'):,} belong; it is made again")
    return index if whole else None


def compute_shard(kind: Kind, shard: Shard, folder: Path) -> int:
    """Read, transform and write one shard; whatever is wrong with a clip becomes a sentence in the index."""
    frames: list[int] = []
    skipped: dict[str, str] = {}
    notes: dict[str, int] = {}
    with whole_file(folder / f"{shard.name}.{kind.ending}") as temporary, open(temporary, "wb") as out:
        for trial in shard.trials:
            try:
                clip = load(trial.path or "", kind.rate)
                values = kind.rows(clip.samples)
            except AudioError as error:
                skipped[trial.utterance] = str(error)
                frames.append(0)
                continue
            for note in clip.notes:
                notes[note] = notes.get(note, 0) + 1
            values.astype(kind.dtype, copy=False).tofile(out)
            frames.append(len(values))
    index = {"bytes": kind.row_bytes * sum(frames), "frames": frames, "skipped": skipped, "notes": notes}
    with whole_file(folder / f"{shard.name}.json") as temporary:
        temporary.write_text(json.dumps(index), "utf-8")
    return len(shard.trials)


def _compute_all(kind: Kind, shards: list[Shard], folder: Path, processes: int) -> None:
    total = sum(len(shard.trials) for shard in shards)
    with Progress(kind.title, total, "clips") as progress:
        if processes == 1 or len(shards) == 1:
            for shard in shards:
                progress.advance(compute_shard(kind, shard, folder))
            return
        # spawn: a forked child of a process that already runs threads (BLAS, CUDA) can hang
        with ProcessPoolExecutor(min(processes, len(shards)), get_context("spawn")) as pool:
            work = [pool.submit(compute_shard, kind, shard, folder) for shard in shards]
            try:
                for done in as_completed(work):
                    progress.advance(done.result())
            except BrokenProcessPool as error:
                raise ShrikeError(
                    "a process that read audio was ended (out of memory?); what is finished is kept: run again to go on"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)


def _estimate(kind: Kind, trials: list[Trial], folder: Path, processes: int) -> None:
    """Read a few clips spread over the list; say size and time, and stop before a disk that is too small is filled."""
    sample = [trials[i] for i in np.linspace(0, len(trials) - 1, min(SAMPLE, len(trials))).astype(int)]
    start, rows = time.perf_counter(), 0
    for trial in sample:
        try:
            rows += len(kind.rows(load(trial.path or "", kind.rate).samples))
        except AudioError:
            continue  # it will be reported with all the others
    seconds = (time.perf_counter() - start) * len(trials) / len(sample) / processes
    size = kind.row_bytes * rows * len(trials) / len(sample)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ShrikeError(f"--cache {folder}: no folder can be made there ({error.strerror}); give another") from error
    free = shutil.disk_usage(folder).free
    say(
        f"{kind.title.split()[0]} of {len(trials):,} clips: about {_bytes(size)} in {folder} ({_bytes(free)} free), "
        f"about {_time(seconds)} with {processes} processes"
    )
    if size > free:
        raise ShrikeError(
            f"{folder} has {_bytes(free)} free and about {_bytes(size)} are needed; choose another --cache"
        )


def _too_short(frontend: FrontEnd) -> str:
    return f"shorter than one analysis window ({1000 * frontend.window / frontend.rate:.0f} ms)"


def _report(cache: Cache) -> None:
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
