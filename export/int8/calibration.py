"""Calibration: the choice of training trials that set the INT8 ranges, and three range estimators.

    chosen = choose(open_corpus("/data/LA", "train"), 500)
    windows = CalibrationClips(build_cache(frontend, chosen, folder))     # (1, 1, bands, 600) each, cropped at random
    ranges = find_ranges(model, tensors(layers), windows, "min-max")

Ranges come from labelled training trials only: random numbers or arbitrary sound give ranges that cost accuracy on
speech. Each class gets half of the trials, each attack an equal share.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from export.graph import INPUT, Floats
from export.int8.scales import LEVELS, Ranges
from export.model_graph import ModelGraph, StepSession, split_steps
from runtime.audio.score_times import first
from runtime.card import model_card as card
from runtime.support.errors import ShrikeError
from train.data.cache import FeatureCache
from train.data.corpus import Partition, Trial
from train.progress import Progress, say

FEW = 100  # trials; below, single clips decide the ranges
SILENCE = 40.0  # dB below the loudest frame of its window: quieter frames hold no speech
NEPER = np.log(10) / 10  # log power per dB
BINS = 2048  # of a magnitude histogram, as in TensorRT's calibrator
SMALLEST_SHARE = 1e-12  # of a histogram's mass, instead of 0: its logarithm is finite
PACE = 8  # bins a step in the search for the best range: 0.4 % of the range

Method = Literal["min-max", "entropy", "percentile"]


def choose(partition: Partition, count: int, seed: int = 0) -> list[Trial]:
    """Choose `count` labelled trials: half of each class, balanced over attacks, as far as there are any."""
    if partition.unlabelled or not partition.bonafide or not partition.spoof:
        raise ShrikeError(
            f"{partition.protocol} has {partition.bonafide} bona fide, {partition.spoof} spoofed and "
            f"{partition.unlabelled} unlabelled trials; calibration needs labelled ones of both classes"
        )
    if count < FEW:
        say(f"warning: {count} calibration trials; below {FEW} single clips decide the ranges")
    rng = np.random.default_rng(seed)
    trials = [partition.trials[place] for place in rng.permutation(len(partition.trials))]
    by_class = (_rounds([trial for trial in trials if trial.bonafide is bonafide]) for bonafide in (True, False))
    taken = [trial for pair in zip_longest(*by_class) for trial in pair if trial is not None][:count]
    if len(taken) < count:
        say(f"warning: {partition.name} has only {len(taken)} of {count} calibration trials")
    return sorted(taken, key=lambda trial: trial.utterance)


def _rounds(trials: Sequence[Trial]) -> list[Trial]:
    """Order trials round-robin over attacks."""
    turn, order = Counter[str](), list[tuple[int, Trial]]()
    for trial in trials:
        order.append((turn[trial.attack], trial))
        turn[trial.attack] += 1
    return [trial for _, trial in sorted(order, key=lambda pair: pair[0])]


@dataclass(frozen=True)
class CalibrationClips:
    """One random window of every clip, cropped as in training; the same ones in each iteration.

    With `step`, a streaming model's frames: every clip from its first frame on, at most two windows long; by then the
    states are renewed. A clip that ends before a stream's first score is repeated up to there.
    """

    cache: FeatureCache
    seed: int = 0
    step: int | None = None

    def __len__(self) -> int:
        return len(self.cache)

    def __iter__(self) -> Iterator[Floats]:
        frontend, rng = self.cache.frontend, np.random.default_rng(self.seed)
        width = frontend.width
        for clip, frames in enumerate(self.cache.lengths):
            if self.step is not None:
                yield repeated_clip(self.cache.frames(clip)[: 2 * width], first(frontend, self.step))
            else:
                start = int(rng.integers(frames - width + 1 if frames > width else frames))
                yield network_input(self.cache.window(clip, start))


def repeated_clip(frames: NDArray[np.float16], least: int) -> Floats:
    """(frames, bands) of a whole clip -> (1, 1, bands, frames or `least`): a shorter clip is repeated."""
    return network_input(frames[np.arange(max(least, len(frames))) % len(frames)])


def network_input(window: NDArray[np.float16]) -> Floats:
    """(frames, bands) of the cache -> (1, 1, bands, frames) for the network."""
    return np.ascontiguousarray(window.T, np.float32)[None, None]


def describe(crops: CalibrationClips, partition: Partition, method: Method) -> card.Calibration:
    """Describe these trials for the card."""
    trials = crops.cache.trials
    names = "".join(sorted(f"{trial.utterance}\n" for trial in trials))
    return card.Calibration(
        method=method,
        corpus=partition.identity(),
        partition=" where ".join(filter(None, (partition.name, partition.selection))),
        trials=len(trials),
        trials_sha256=hashlib.sha256(names.encode()).hexdigest(),
        classes=dict(Counter("bonafide" if trial.bonafide else "spoof" for trial in trials)),
        attacks=dict(Counter(trial.attack for trial in trials if not trial.bonafide)),
        silence=round(float(np.mean([silence(window) for window in crops])), 4),
    )


def silence(window: Floats) -> float:
    """Share of a window's frames that lie SILENCE dB or more below its loudest frame, by summed power."""
    power = np.log(np.exp(window[0, 0].astype(np.float64)).sum(axis=0))  # (frames,)
    return float(np.mean(power < power.max() - SILENCE * NEPER))


# ---- ranges ----------------------------------------------------------------------------------------------------------


def find_ranges(
    model: ModelGraph,
    names: Sequence[str],
    clips: CalibrationClips | Sequence[Floats],
    method: Method,
    percentile: float = 99.999,
) -> Ranges:
    """Estimate the largest magnitude that INT8 holds, for every named tensor of the float graph, over all steps."""
    inner = tuple(name for name in names if name != INPUT)
    found, session = {name: Histogram() for name in names}, StepSession(model, extra=inner)
    with Progress("calibration", len(clips), "clips") as bar:
        for clip in clips:
            session.reset()
            for piece in split_steps(clip, model.frames):
                values = {INPUT: piece, **dict(zip(inner, session(piece)[1], strict=True))}
                for name in names:
                    found[name].add(values[name], counted=method != "min-max")
            bar.advance()
    if method == "percentile":
        return {name: found[name].percentile(percentile) for name in names}
    return {name: found[name].entropy() if method == "entropy" else found[name].largest for name in names}


class Histogram:
    """Counts of magnitudes in BINS equal bins; the range doubles when a larger value comes."""

    def __init__(self) -> None:
        self.largest = 0.0
        self.reach = 0.0  # upper edge of the last bin
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32], counted: bool = True) -> None:
        peak = float(np.max(np.abs(values)))
        if not np.isfinite(peak):
            raise ShrikeError("an activation is not finite on a calibration trial; train the network again")
        self.largest = max(self.largest, peak)
        if not counted or peak == 0.0:
            return
        self.reach = self.reach or peak
        while peak > self.reach:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
            self.reach *= 2.0
        places = (np.abs(values, dtype=np.float32).ravel() * np.float32(BINS / self.reach)).astype(np.int32)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)

    def percentile(self, share: float) -> float:
        """Return the magnitude below which `share` percent of all values lie."""
        below = np.cumsum(self.counts)
        place = int(np.searchsorted(below, share / 100 * below[-1]))
        return min(self.largest, (place + 1) * self.reach / BINS)

    def entropy(self) -> float:
        """Return the range whose 128 levels have the least Kullback-Leibler divergence (Migacz, GTC 2017).

        A ReLU's zeros carry no information about the range: the first bin counts like its neighbour.
        """
        if not self.counts.any():
            return self.largest
        counts = self.counts.astype(np.float64)
        counts[0] = counts[1]
        candidates = range(LEVELS + 1, BINS + 1, PACE)
        best = min(candidates, key=lambda bins: _divergence(counts, bins))
        return min(self.largest, best * self.reach / BINS)


def _divergence(counts: NDArray[np.float64], bins: int) -> float:
    """Divergence between the first `bins` bins, the rest clipped into the last, and the same in 128 levels."""
    inside = counts[:bins]
    wanted = inside.copy()
    wanted[-1] += counts[bins:].sum()
    level = np.arange(bins) * (LEVELS + 1) // bins
    filled = inside > 0
    mass = np.bincount(level, inside, LEVELS + 1)
    members = np.bincount(level, filled, LEVELS + 1)
    levelled = np.where(filled, (mass / np.maximum(members, 1))[level], 0.0)
    if not wanted.sum() or not levelled.sum():
        return np.inf
    p, q = wanted / wanted.sum(), levelled / levelled.sum()
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / np.maximum(q[there], SMALLEST_SHARE))))


def check_disjoint(chosen: Iterable[Trial], verification: Iterable[Trial]) -> None:
    """Refuse trials that would both calibrate and verify."""
    shared = {trial.utterance for trial in chosen} & {trial.utterance for trial in verification}
    if shared:
        raise ShrikeError(
            f"{len(shared):,} trials would both calibrate and verify, {min(shared)} among them; "
            "give another --verification-protocol"
        )
