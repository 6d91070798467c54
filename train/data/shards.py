"""Shards of computed features or decoded sound; train.data.cache reads them.

    (shards,) = make_shards([feature_kind(frontend)], trials, folder)
    index = read_index(folder, shards[0], kind)             # None if it is absent or damaged

A shard holds consecutive trials of a protocol. Its name is the hash of everything that determines its content: the
front-end (of sound only the rate), the utterances and their files' sizes and times. Stale shards are therefore never
read, an interrupted run continues with complete shards, and runs with equal trials share shards.

    SHARD.f16     frames of all its clips, one after the other, (frames, bands) float16
    SHARD.s16     samples of all its clips, one after the other, (samples,) int16
    SHARD.json    written last: bytes of the above, frames (or samples) per clip, and reasons for clips left out
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.decode import load
from runtime.audio.features import FrontEnd, Samples
from runtime.support.atomic import atomic_file
from runtime.support.errors import AudioError, ShrikeError
from train.augment.chain import Chain, changed, identity
from train.config import Augmentation
from train.data.processes import cores, in_processes
from train.data.protocols import Trial
from train.progress import Progress, say

VERSION = 1  # of the format; the front-end has a version of its own in the name
SHARD_TRIALS = (64, 2048)  # fewest and most trials in a shard: small corpora still use all cores,
SHARDS_WANTED = 32  # and 600,000 trials make 293 shards, each an open file at most
SAMPLE = 16  # clips that are read first, to estimate time and size


@dataclass(frozen=True)
class Shard:
    """Trials that are computed and stored together."""

    name: str
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Kind:
    """The type of a shard's rows, and the function from a clip to rows."""

    title: str
    ending: str
    dtype: type[np.generic]
    columns: int  # values in a row
    identity: dict[str, Any]  # determines the rows, with the clip
    rate: int  # Hz, at which clips are read
    rows: Callable[[Samples], NDArray[Any]]  # (samples,) -> (rows, columns), in `dtype` or wider

    @property
    def row_bytes(self) -> int:
        return self.columns * np.dtype(self.dtype).itemsize


Part = Sequence[tuple[Kind, Shard]]  # shards of the same trials, of kinds that read at the same rate


def feature_kind(frontend: FrontEnd) -> Kind:
    spectrum = {name: value for name, value in asdict(frontend).items() if name not in ("level", "width")}
    title = f"features ({frontend.bands} bands)"
    return Kind(title, "f16", np.float16, frontend.bands, spectrum, frontend.rate, frontend.frames)


def version_kind(frontend: FrontEnd, settings: Augmentation, chain: Chain, version: int) -> Kind:
    """Features of clips whose sound was changed; the same clips are left out as without changes."""
    same = feature_kind(frontend)
    changes = {**same.identity, "sound": identity(settings), "version": version}
    rows = partial(_changed_frames, frontend=frontend, chain=chain, version=version)
    return replace(same, title="changed features", identity=changes, rows=rows)


def _changed_frames(samples: Samples, frontend: FrontEnd, chain: Chain, version: int) -> NDArray[np.float32]:
    if not frontend.count(len(samples)):
        return frontend.frames(samples)
    sound = changed(samples, chain, version)
    # A short clip that was played faster still has a frame.
    return frontend.frames(np.pad(sound, (0, max(0, frontend.window - len(sound)))))


def sound_kind(rate: int) -> Kind:
    return Kind("sound", "s16", np.int16, 1, {"sound": "s16", "rate": rate}, rate, _to_int16)


def _to_int16(samples: Samples) -> NDArray[np.int16]:
    """Convert to 16 bit: exact for 16-bit recordings at the front-end's rate, clipped after resampling."""
    return np.clip(np.rint(samples * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)


def make_shards(kinds: Sequence[Kind], trials: Sequence[Trial], folder: Path, processes: int = 0) -> list[list[Shard]]:
    """Return the shards of all trials, a list for each kind; compute missing ones, after logging an estimate of size
    and time. A clip is decoded once for all kinds."""
    plans = [plan_shards(kind, trials) for kind in kinds]
    alike = [list(zip(kinds, shards, strict=True)) for shards in zip(*plans, strict=True)]
    missing = [[(kind, shard) for kind, shard in part if read_index(folder, shard, kind) is None] for part in alike]
    if missing := [part for part in missing if part]:
        processes = processes or cores()
        _estimate(missing, folder, processes)
        _compute_all(missing, folder, processes)
    return plans


def plan_shards(kind: Kind, trials: Sequence[Trial]) -> list[Shard]:
    """Split the trials into shards and name each by the hash of its content."""
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
    """Read the shard's index; None if it is absent, damaged, or does not match its data file's length."""
    try:
        index = json.loads((folder / f"{shard.name}.json").read_text("utf-8"))
        size = (folder / f"{shard.name}.{kind.ending}").stat().st_size
    except (OSError, ValueError):
        return None
    frames = index.get("frames", [])
    whole = len(frames) == len(shard.trials) and size == index.get("bytes") == kind.row_bytes * sum(frames)
    if not whole:
        data = f"{shard.name}.{kind.ending}"
        say(f"cache: {data} has {size:,} bytes instead of {index.get('bytes'):,}; it is computed again")
    return index if whole else None


def compute_shards(part: Part, folder: Path) -> int:
    """Compute and write the shards of the same trials; their indices record errors of clips."""
    trials, rate = part[0][1].trials, part[0][0].rate
    frames: list[list[int]] = [[] for _ in part]
    skipped: dict[str, str] = {}
    notes: dict[str, int] = {}
    with ExitStack() as files:
        paths = [files.enter_context(atomic_file(folder / f"{shard.name}.{kind.ending}")) for kind, shard in part]
        outs = [files.enter_context(open(path, "wb")) for path in paths]
        for trial in trials:
            try:
                clip = load(trial.path or "", rate)
                values = [kind.rows(clip.samples) for kind, _ in part]
            except AudioError as error:
                skipped[trial.utterance] = str(error)
                for counts in frames:
                    counts.append(0)
                continue
            for note in clip.notes:
                notes[note] = notes.get(note, 0) + 1
            for (kind, _), rows, counts, out in zip(part, values, frames, outs, strict=True):
                rows.astype(kind.dtype, copy=False).tofile(out)
                counts.append(len(rows))
    for (kind, shard), counts in zip(part, frames, strict=True):
        index = {"bytes": kind.row_bytes * sum(counts), "frames": counts, "skipped": skipped, "notes": notes}
        with atomic_file(folder / f"{shard.name}.json") as temporary:
            temporary.write_text(json.dumps(index), "utf-8")
    return len(trials)


def _compute_all(missing: Sequence[Part], folder: Path, processes: int) -> None:
    total = sum(len(part[0][1].trials) for part in missing)
    with Progress(missing[0][0][0].title, total, "clips") as progress:
        if processes == 1 or len(missing) == 1:
            for part in missing:
                progress.advance(compute_shards(part, folder))
            return
        work = partial(compute_shards, folder=folder)
        with closing(in_processes(work, missing, processes, "read audio")) as results:
            for _, clips in results:
                progress.advance(clips)


def _estimate(missing: Sequence[Part], folder: Path, processes: int) -> None:
    """Estimate size and time from a few clips; raise an error if the disk is too small."""
    trials = [(trial, part) for part in missing for trial in part[0][1].trials]
    sample = [trials[i] for i in np.linspace(0, len(trials) - 1, min(SAMPLE, len(trials))).astype(int)]
    (first, _), *_ = missing[0]
    start, rows = time.perf_counter(), 0
    for trial, part in sample:
        try:
            samples = load(trial.path or "", first.rate).samples
            rows += sum(len(kind.rows(samples)) for kind, _ in part)
        except AudioError:
            continue  # reported with all others
    seconds = (time.perf_counter() - start) * len(trials) / len(sample) / processes
    size = first.row_bytes * rows * len(trials) / len(sample)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ShrikeError(f"--cache {folder}: cannot create the folder ({error.strerror}); use another") from error
    free, what = shutil.disk_usage(folder).free, first.title.partition(" (")[0]
    say(
        f"{what} of {len(trials):,} clips: about {_bytes(size)} in {folder} ({_bytes(free)} free), "
        f"about {_time(seconds)} with {processes} processes"
    )
    if size > free:
        raise ShrikeError(
            f"{folder} has {_bytes(free)} free and about {_bytes(size)} are needed; choose another --cache"
        )


def _bytes(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def _time(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
