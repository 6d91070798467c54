"""Scores of models and of other projects' detectors, by several processes, in a partial file that a killed run resumes.

    scores = score_trials("edge", cache, partial(open_model, subject, False), Path("out.partial/edge.txt"), bound_to, 2)

The partial file begins with a line of JSON: hash of the model, form, trials, features and windows. Lines `UTTERANCE
SCORE` follow. If the first line differs, scoring starts again. Scores are equal whichever process computed them.
"""

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Subject, open_bare
from benchmarks.workers import spread
from export.graph import score
from export.int8.calibration import network_input
from export.streaming_eval import by_steps
from export.verify import Scores
from runtime.audio.features import RATE, Samples
from runtime.audio.score_times import scored
from runtime.card.schema import require
from runtime.engines import as_streaming
from runtime.support.errors import ShrikeError
from train.data.cache import Cache, FeatureCache, SoundCache
from train.progress import Progress, say

CHUNK = 16  # clips that a process takes at a time: half a second of work, the most that a kill loses
LONGEST = 60 * RATE  # samples of a peer's input
FACTOR = np.float32(2.0**-15)  # full scale of cached sound

ScoreClips = Callable[[Sequence[int]], list[float]]


def open_model(subject: Subject, mean: bool, cache: FeatureCache) -> ScoreClips:
    """Bona fide minus spoof of each clip's first window, or the mean over windows that overlap by half.

    A streaming model starts from its reset state in every window; runtime.audio.score_times names the scored step.
    """
    engine, step = subject.open(), subject.frames
    streaming = as_streaming(engine)
    forward = by_steps(streaming) if streaming else engine

    def of_clip(clip: int) -> float:
        windows = (network_input(cache.window(clip, int(start))) for start in cache.starts(clip, mean))
        place = scored(int(cache.lengths[clip]), cache.frontend, step) // step - 1 if step else 0
        return float(np.mean([score(forward(window))[place] for window in windows]))

    return lambda clips: [of_clip(clip) for clip in clips]


# ---- peers


def open_peer_clips(path: Path, size: int, cache: SoundCache) -> ScoreClips:
    """A clip is cut to its first `size` samples or repeated, as the code of AASIST and RawNet2 does in evaluation."""
    score_of = open_peer(path, size)
    return lambda clips: [score_of(cache.samples(clip) * FACTOR) for clip in clips]


def parse_input(text: str) -> int:
    """The samples of waveform:64600."""
    kind, _, size = text.partition(":")
    fits = kind == "waveform" and size.isdecimal() and 0 < int(size) <= LONGEST
    require(fits, f"--peer-input {text}: expected waveform:SAMPLES at 16 kHz, as in waveform:64600")
    return int(size)


def open_peer(path: Path, size: int) -> Callable[[Samples], float]:
    """A function from samples (n,) at 16 kHz to bona fide minus spoof, or the file's one score; it has run once."""
    session = open_bare(path, threads=1)
    inputs = session.get_inputs()
    require(len(inputs) == 1, f"{path.name}: {len(inputs)} inputs; expected one, the waveform")
    shape = (1,) * (len(inputs[0].shape) - 1) + (size,)  # (batch, samples) or (batch, 1, samples)

    def score_of(samples: Samples) -> float:
        waveform = np.resize(samples[:size], shape).astype(np.float32)
        try:
            found = [np.asarray(values, np.float64).ravel() for values in session.run(None, {inputs[0].name: waveform})]
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ShrikeError(f"{path.name}: fails on {size} samples ({reason}); see --peer-input") from error
        usable = [values for values in found if values.size in (1, 2)]  # two are (spoof, bona fide)
        require(
            len(usable) == 1,
            f"{path.name}: outputs of {[values.size for values in found]} values; expected one of 2, spoof and bona "
            "fide, or one of 1, a score; export that output alone",
        )
        return float(usable[0][-1] - (usable[0][0] if usable[0].size == 2 else 0.0))

    score_of(np.random.default_rng(0).standard_normal(size, np.float32))
    return score_of


# ---- stopped runs


def score_trials(
    name: str, cache: Cache, open_clips: Callable[[Any], ScoreClips], partial_file: Path, bound_to: dict[str, str],
    jobs: int,
) -> Scores:  # fmt: skip
    """The score of every clip in the cache, (n,); those in the partial file are not computed again."""
    names, known = [trial.utterance for trial in cache.trials], read_partial(partial_file, bound_to)
    missing = [clip for clip, utterance in enumerate(names) if utterance not in known]
    if known and missing:
        say(f"{name}: {len(names) - len(missing):,} of {len(names):,} scores found; resuming")
    if missing:
        light: Any = copy.copy(cache)
        light.trials = []  # spare every process the names and paths of 600,000 trials
        chunks = [missing[start : start + CHUNK] for start in range(0, len(missing), CHUNK)]
        computed = closing(spread(partial(open_clips, light), chunks, jobs, "scored"))
        with (
            open(partial_file, "a" if known else "w", encoding="utf-8") as file,
            Progress(name, len(missing), "trials") as bar,
            computed as results,
        ):
            file.write("" if known else json.dumps(bound_to) + "\n")
            for clips, new in results:
                known |= {names[clip]: value for clip, value in zip(clips, new, strict=True)}
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
        known = {name: float(value) for name, value in (line.split() for line in lines)}
        same = json.loads(head) == bound_to
    except ValueError:
        known, same = {}, False
    if data and not same:
        say(f"{path}: scores of another model, list or version; scoring starts again")
    if same and len(whole) < len(data):
        path.write_bytes(whole)
    return known if same else {}
