"""Scores of a model over trials, by several processes, in a partial file from which a killed run resumes.

    scores = score_trials("distilled", ModelScorer(subject, cache), Path("out.partial/distilled.txt"), bound_to, jobs=2)

The partial file begins with a line of JSON: hash of the model, form, trials, features and windows. Lines `UTTERANCE
SCORE` follow. If the first line differs, scoring starts again. Scores are equal whichever process computed them.
"""

import copy
import json
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.accuracy.peers import PeerScorer
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

ScoreClips = Callable[[Sequence[int]], list[float]]


@dataclass(frozen=True)
class ModelScorer:
    """A model of ours and the features of the clips; every process opens it."""

    subject: Subject
    cache: FeatureCache
    mean: bool = False  # over windows that overlap by half, instead of the first

    @property
    def alone(self) -> bool:
        """True if one process must do all the work: there is one GPU."""
        return self.subject.form.startswith("TensorRT")

    def open(self) -> ScoreClips:
        """An engine of windows, or of whole clips for a streaming model."""
        from export.streaming_eval import by_steps

        engine = self.subject.open()
        streaming = as_streaming(engine)
        forward = by_steps(streaming) if streaming else engine
        return lambda clips: score_clips(forward, self.cache, clips, self.mean, self.subject.frames)


def score_trials(
    name: str, scorer: ModelScorer | PeerScorer, partial_file: Path, bound_to: dict[str, str], jobs: int
) -> "Scores":
    """Bona fide minus spoof of every clip in the cache, (n,); scores in the partial file are not computed again."""
    names, known = [trial.utterance for trial in scorer.cache.trials], read_partial(partial_file, bound_to)
    missing = [clip for clip, utterance in enumerate(names) if utterance not in known]
    if known and missing:
        say(f"{name}: {len(names) - len(missing):,} of {len(names):,} scores found; resuming")
    if missing:
        with open(partial_file, "a" if known else "w", encoding="utf-8") as file:
            file.write("" if known else json.dumps(bound_to) + "\n")
            chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
            computed = closing(_compute(scorer, chunks, jobs))
            with Progress(name, len(missing), "trials") as bar, computed as results:
                for clips, new in results:
                    known |= {names[clip]: score for clip, score in zip(clips, new, strict=True)}
                    file.write("".join(f"{names[clip]} {known[names[clip]]!r}\n" for clip in clips))
                    file.flush()
                    bar.advance(len(clips))
    scores = np.array([known[utterance] for utterance in names])
    require(bool(np.isfinite(scores).all()), f"{name}: its scores are not finite; export or train it again")
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
    scorer: ModelScorer | PeerScorer, chunks: list[list[int]], jobs: int
) -> Generator[tuple[Sequence[int], list[float]], None, None]:
    if jobs == 1 or scorer.alone:
        score = scorer.open()
        for chunk in chunks:
            yield chunk, score(chunk)
        return
    cache: Any = copy.copy(scorer.cache)
    cache.trials = []  # spare every process the names and paths of 600,000 trials
    light = replace(scorer, cache=cache)
    yield from in_processes(_Worker.score, chunks, jobs, "scored", _Worker.begin, (light,))


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
    """The scorer of one process."""

    opened: tuple[ScoreClips, ...] = ()

    @classmethod
    def begin(cls, scorer: ModelScorer | PeerScorer) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
        cls.opened = (scorer.open(),)

    @classmethod
    def score(cls, clips: Sequence[int]) -> list[float]:
        return cls.opened[0](clips)
