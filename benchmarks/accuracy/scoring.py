"""Scores of a model over trials, by several processes, in a partial file from which a killed run resumes.

    scores = score_trials(subject, cache, Path("report.partial/distilled.txt"), bound_to, jobs=2)

The partial file begins with a line of JSON: hash of the model, form, trials, features and windows. Lines `UTTERANCE
SCORE` follow. If the first line differs, scoring starts again. Scores are equal whichever process computed them.
"""

import copy
import json
import signal
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cases import Subject
from runtime.audio.score_times import scored
from runtime.card.schema import require
from runtime.engines import as_streaming
from train.data.cache import FeatureCache
from train.data.processes import in_processes
from train.progress import Progress, say

if TYPE_CHECKING:
    from export.graph import Forward
    from export.verify import Scores

CHUNK = 16  # clips that a process takes at a time: half a second of work, the most that a kill loses


def score_trials(
    subject: Subject, cache: FeatureCache, partial_file: Path, bound_to: dict[str, str], jobs: int
) -> "Scores":
    """Bona fide minus spoof of every clip in the cache, (n,); scores in the partial file are not computed again."""
    names, known = [trial.utterance for trial in cache.trials], read_partial(partial_file, bound_to)
    missing = [clip for clip, name in enumerate(names) if name not in known]
    if known and missing:
        say(f"{subject.model}: {len(names) - len(missing):,} of {len(names):,} scores found; resuming")
    if missing:
        with open(partial_file, "a" if known else "w", encoding="utf-8") as file:
            file.write("" if known else json.dumps(bound_to) + "\n")
            chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
            computed = closing(_compute(subject, cache, chunks, bound_to["windows"] == "mean", jobs))
            with Progress(subject.model, len(missing), "trials") as bar, computed as results:
                for clips, new in results:
                    known |= {names[clip]: score for clip, score in zip(clips, new, strict=True)}
                    file.write("".join(f"{names[clip]} {known[names[clip]]!r}\n" for clip in clips))
                    file.flush()
                    bar.advance(len(clips))
    scores = np.array([known[name] for name in names])
    require(bool(np.isfinite(scores).all()), f"{subject.path}: its scores are not finite; export or train it again")
    return scores


def read_partial(path: Path, bound_to: dict[str, str]) -> dict[str, float]:
    """The scores of a stopped run of the same model and trials; a torn last line is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    try:
        head, *lines = whole.decode().splitlines()
        known = {name: float(score) for name, score in (line.split() for line in lines)}
        same = json.loads(head) == bound_to
    except ValueError:
        known, same = {}, False
    if data and not same:
        say(f"{path}: scores of another model, list or version; scoring starts again")
    if same and len(whole) < len(data):
        path.write_bytes(whole)
    return known if same else {}


def _compute(
    subject: Subject, cache: FeatureCache, chunks: list[list[int]], mean: bool, jobs: int
) -> Generator[tuple[Sequence[int], list[float]], None, None]:
    if jobs == 1 or subject.form.startswith("TensorRT"):  # one GPU
        engine = _open(subject)
        for chunk in chunks:
            yield chunk, score_clips(engine, cache, chunk, mean, subject.frames)
        return
    light = copy.copy(cache)
    light.trials = []  # spare every process the names and paths of 600,000 trials
    yield from in_processes(_Worker.score, chunks, jobs, "scored", _Worker.begin, (subject, light, mean))


def _open(subject: Subject) -> "Forward":
    """An engine of windows, or of whole clips for a streaming model."""
    from export.streaming_eval import by_steps

    engine = subject.open()
    streaming = as_streaming(engine)
    return by_steps(streaming) if streaming else engine


def score_clips(
    engine: "Forward", cache: FeatureCache, clips: Sequence[int], mean: bool, step: int | None
) -> list[float]:
    """Bona fide minus spoof of each clip's first window, or the mean over windows that overlap by half.

    A streaming model starts from its reset state in every window; runtime.audio.score_times names the scored step.
    """
    from export.graph import score
    from export.int8.calibration import network_input

    def of_clip(clip: int) -> float:
        windows = (network_input(cache.window(clip, int(start))) for start in cache.starts(clip, mean))
        place = scored(int(cache.lengths[clip]), cache.frontend, step) // step - 1 if step else 0
        return float(np.mean([score(engine(window))[place] for window in windows]))

    return [of_clip(clip) for clip in clips]


class _Worker:
    """Engine and features of one process."""

    state: "tuple[Forward, FeatureCache, bool, int | None]"

    @classmethod
    def begin(cls, subject: Subject, cache: FeatureCache, mean: bool) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
        cls.state = _open(subject), cache, mean, subject.frames

    @classmethod
    def score(cls, clips: Sequence[int]) -> list[float]:
        engine, cache, mean, step = cls.state
        return score_clips(engine, cache, clips, mean, step)
