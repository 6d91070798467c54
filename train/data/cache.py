"""Features or decoded sound on disk: computed once (train.data.shards), memory-mapped, read clip by clip.

cache = build_cache(frontend, trials, folder)
cache.window(7, start=120)      # (600, bands) float16 of trial 7; a view into the map if the clip is long enough
cache = build_sound_cache(frontend, trials, folder)     # for training that changes the sound before the front-end
cache.samples(7)                # (samples,) int16 of trial 7, a view into the map
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FrontEnd
from runtime.support.errors import ShrikeError
from train.augment.chain import Chain
from train.config import Augmentation
from train.data.protocols import Trial
from train.data.shards import Kind, Shard, feature_kind, make_shards, read_index, sound_kind, version_kind
from train.progress import say


class Cache:
    """All readable clips of a partition, in protocol order. Opening reads only the small index files."""

    def __init__(self, frontend: FrontEnd, kind: Kind, folder: Path, shards: Sequence[Shard]) -> None:
        self.frontend = frontend
        self.trials: list[Trial] = []
        self.skipped: dict[str, str] = {}  # utterance -> reason
        self.notes: dict[str, int] = {}  # note on conversion -> number of clips
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
        """Return the number of frames of a clip with so many rows."""
        return rows

    def __len__(self) -> int:
        return len(self.trials)

    @property
    def identity(self) -> str:
        """Hash of the shards' names, which are hashes of front-end, clips and files."""
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
        """Return the first frames of a clip's windows for scoring: the first, or all that overlap by half."""
        width = self.frontend.width
        room = max(int(self.lengths[clip]) - width, 0) if mean else 0
        return np.arange(0, room + width // 2, width // 2).clip(max=room)


class FeatureCache(Cache):
    """Frames of every clip."""

    def frames(self, clip: int) -> NDArray[np.float16]:
        """Return all frames of a clip, (frames, bands)."""
        shard, first, frames = self._places[clip]
        return _map(self._paths[shard], np.float16, self.frontend.bands)[first : first + frames]

    def window(self, clip: int, start: int = 0) -> NDArray[np.float16]:
        """Return 600 frames of a clip from `start`, (width, bands); a shorter clip repeats its frames."""
        shard, first, frames = self._places[clip]
        stored = _map(self._paths[shard], np.float16, self.frontend.bands)
        width = self.frontend.width
        if frames >= width:
            return stored[first + start : first + start + width]
        return stored[first + np.arange(start, start + width) % frames]


class SoundCache(Cache):
    """Samples of every clip that is at least one frame long."""

    def _frames(self, rows: int) -> int:
        return self.frontend.count(rows)

    def samples(self, clip: int) -> NDArray[np.int16]:
        """Return the samples of a clip, (samples,); full scale is 2^15."""
        shard, first, count = self._places[clip]
        return _map(self._paths[shard], np.int16, 1)[first : first + count, 0]


AnyCache = TypeVar("AnyCache", bound=Cache)


@lru_cache(maxsize=512)  # a map holds a file descriptor, and many systems allow 1024
def _map(path: Path, dtype: type[np.generic], columns: int) -> NDArray[Any]:
    return np.memmap(path, dtype, "r").reshape(-1, columns)


def build_cache(
    frontend: FrontEnd, trials: Sequence[Trial], folder: Path, processes: int = 0, quiet: bool = False
) -> FeatureCache:
    """Compute missing features, log which clips are left out and why, and open the cache."""
    return _build(FeatureCache, frontend, [feature_kind(frontend)], trials, folder, processes, quiet)[0]


def build_versions(
    frontend: FrontEnd,
    trials: Sequence[Trial],
    folder: Path,
    processes: int = 0,
    quiet: bool = False,
    *,
    settings: Augmentation,
    chain: Chain,
) -> list[FeatureCache]:
    """Build the caches of --versions, each of which has all clips."""
    kinds = [version_kind(frontend, settings, chain, number) for number in range(settings.versions)]
    return _build(FeatureCache, frontend, kinds, trials, folder, processes, quiet)


def build_sound_cache(
    frontend: FrontEnd, trials: Sequence[Trial], folder: Path, processes: int = 0, quiet: bool = False
) -> SoundCache:
    """The same for decoded sound; it leaves out the same clips."""
    return _build(SoundCache, frontend, [sound_kind(frontend.rate)], trials, folder, processes, quiet)[0]


def joined(caches: Sequence[AnyCache]) -> AnyCache:
    """Return the caches of several corpora as one, in this order."""
    whole = copy.copy(caches[0])
    whole.trials = [trial for cache in caches for trial in cache.trials]
    whole.skipped = {name: reason for cache in caches for name, reason in cache.skipped.items()}
    whole.notes = dict(sum((Counter(cache.notes) for cache in caches), Counter()))
    whole._paths = [path for cache in caches for path in cache._paths]
    before = np.cumsum([0, *(len(cache._paths) for cache in caches)])  # shards of the caches in front
    places = [cache._places + [first, 0, 0] for cache, first in zip(caches, before[:-1], strict=True)]
    whole._places = np.concatenate(places)
    return whole


def _build(
    made: type[AnyCache],
    frontend: FrontEnd,
    kinds: Sequence[Kind],
    trials: Sequence[Trial],
    folder: Path,
    processes: int,
    quiet: bool,
) -> list[AnyCache]:
    folder = folder.expanduser()
    plans = make_shards(kinds, trials, folder, processes)
    caches = [made(frontend, kind, folder, shards) for kind, shards in zip(kinds, plans, strict=True)]
    if not quiet:
        _report(caches[0])
    if not len(caches[0]):
        raise ShrikeError(f"none of {len(trials)} clips could be used, for the reasons above; check files and protocol")
    return caches


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
