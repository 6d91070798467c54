"""The gate: the same labelled trials through two models; a model that loses too much is not written.

    trials = read_trials(GateOptions(), frontend, corpus, cache_folder)      # dev, never eval
    before, after = trials.scores(float_engine), trials.scores(int8_engine)
    comparison = compare(before, after, trials.labels, GateOptions())
    comparison.faults                                                        # none: the model may ship

This module does not need torch: a device compares the engine it has built with its ONNX file.

The gate judges by the 95 % bootstrap interval of the EER's change. docs/int8.md has its rules, and the reason why a
short list gives several windows of each clip.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graph import Floats, score
from export.int8.calibration import network_input, repeated_clip
from export.model_graph import Forward
from export.options import GateOptions
from runtime.audio.features import FrontEnd
from runtime.audio.score_times import first, scored
from runtime.card import model_card as card
from runtime.support.errors import ShrikeError
from train.data.cache import FeatureCache, build_cache
from train.data.corpus import Trial, open_corpus
from train.data.corpus_index import CorpusIndex
from train.evaluate import metrics
from train.evaluate.bootstrap import paired_bootstrap_eer_difference
from train.evaluate.scorefile import read_asv_scores
from train.progress import CONSOLE, Progress

FINEST = 4  # steps of the EER within the allowed rise, at least
MOST_WINDOWS = 20_000  # in all: a longer list gives one window per trial
LEAST_CORRELATION = 0.98  # of both models' scores, where the trials have no labels
REJECTED = 3  # exit code of a command whose model did not pass

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """Verification trials: `windows` of every clip, the first one where published scores are taken.

    A streaming model runs through whole clips from the reset, and is scored at as many moments of each.
    """

    name: str  # for the card
    cache: FeatureCache
    windows: int = 1
    step: int | None = None  # frames a step of a streaming model

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """1 bona fide, 0 spoof, of every window (n,); None where the protocol has no labels."""
        labels = self.cache.labels
        return None if (labels < 0).any() else np.repeat(labels, self.windows)

    def __len__(self) -> int:
        return len(self.cache) * self.windows

    def __iter__(self) -> Iterator[tuple[Floats, NDArray[np.int64]]]:
        """Yield features (1, 1, bands, frames), and the steps, from 0, after which they are scored.

        Windows come clip by clip; a clip shorter than a window is repeated from different offsets, as in training.
        """
        frontend, step = self.cache.frontend, self.step
        for clip, frames in enumerate(self.cache.lengths.tolist()):
            if step is not None:
                moments = self.moments(frames, step)
                features = repeated_clip(self.cache.frames(clip), first(frontend, step))
                yield features[..., : (int(moments.max()) + 1) * step], moments
                continue
            places = frames - frontend.width if frames > frontend.width else frames
            for number in range(self.windows):
                yield network_input(self.cache.window(clip, places * number // self.windows)), np.zeros(1, np.int64)

    def moments(self, frames: int, step: int) -> NDArray[np.int64]:
        """Steps, from 0, after which a stream of so many frames is scored."""
        begin, end = first(self.cache.frontend, step), scored(frames, self.cache.frontend, step)
        last = max(frames // step * step, end)
        others = np.linspace(begin, last, self.windows - 1) // step
        return np.concatenate([[end // step], others]).astype(np.int64) - 1

    def scores(self, forward: Forward, title: str = "verification") -> Scores:
        """Compute bona fide minus spoof at every moment, (n,)."""
        found: list[Scores] = []
        with Progress(title, len(self), "windows") as bar:
            for features, moments in self:
                found.append(score(forward(features))[moments])
                bar.advance(len(moments))
        return np.concatenate(found)


def read_trials(
    gate: GateOptions, frontend: FrontEnd, corpus: Path | CorpusIndex, folder: Path, step: int | None = None
) -> Trials:
    """Read the gate's trials of a corpus; features are cached in `folder`. `step`: frames, of a streaming model."""
    # A protocol that was given may lack labels; the partition dev may not.
    protocol, count = gate.verification_protocol, gate.verification_trials
    partition = open_corpus(corpus, "eval" if protocol else "dev", protocol)
    trials: Sequence[Trial] = partition.trials
    if 0 < count < len(trials):
        drawn = np.random.default_rng(0).permutation(len(trials))[:count]
        trials = [trials[place] for place in sorted(drawn)]
    source = partition.protocol.name if protocol else f"dev: {partition.protocol.name}"
    cache = build_cache(frontend, trials, folder)
    labels = cache.labels
    if (labels >= 0).all() and len({*labels.tolist()}) < 2:
        raise ShrikeError(f"{source} has one class only; expected bona fide and spoofed trials, or no labels at all")
    windows = gate.verification_windows or (1 if (labels < 0).any() else _windows_for(labels, gate.eer_rise))
    shown = f"{source}, {len(trials):,} of {len(partition.trials):,} trials"
    return Trials(shown if windows == 1 else f"{shown}, {windows} windows of each", cache, windows, step)


def finest(labels: NDArray[np.int64]) -> float:
    """The EER's change if one bona fide and one spoofed trial swap ranks."""
    return float(1 / np.count_nonzero(labels == 1) + 1 / np.count_nonzero(labels == 0)) / 2


def _windows_for(labels: NDArray[np.int64], eer_rise: float) -> int:
    """Windows per clip that make the EER's step 1/FINEST of the allowed rise."""
    wanted = int(np.ceil(FINEST * finest(labels) / max(eer_rise, 1e-9)))
    return max(1, min(wanted, MOST_WINDOWS // len(labels)))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same trials: `before` is the reference, `after` the model that would ship. Rates in 0..1."""

    gate: GateOptions
    windows: int  # of every trial, each with its score
    accuracy: card.Accuracy  # as in the card: float is `before`

    @property
    def rise(self) -> float | None:
        """Change of the EER; None without labels."""
        before, after = self.accuracy.eer_float, self.accuracy.eer
        return None if before is None or after is None else after - before

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of that change."""
        return self.accuracy.eer_change_interval

    @property
    def is_lost(self) -> bool:
        """True if the whole interval lies above the allowed rise."""
        return self.interval is not None and self.interval[0] > self.gate.eer_rise

    @property
    def is_unproven(self) -> bool:
        """True if the estimate lies above the allowed rise, but the interval contains it."""
        return self.rise is not None and self.rise > self.gate.eer_rise and not self.is_lost

    @property
    def faults(self) -> list[str]:
        """Reasons, as sentences, why the model must not ship."""
        correlation = self.accuracy.correlation or 0.0
        if self.rise is None and correlation < LEAST_CORRELATION:
            return [f"scores correlate by {correlation:.4f}; expected {LEAST_CORRELATION} or more"]
        rises = f"EER rises by {self._span()}; allowed: {self.gate.max_eer_rise:.2f} % (--max-eer-rise)"
        if self.is_unproven and not self.gate.accept_unproven:
            count = self.accuracy.trials * self.windows
            return [f"{rises}. These {count:,} windows cannot decide: give more trials, or use --accept-unproven"]
        return [rises] if self.is_lost else []

    @property
    def note(self) -> str | None:
        """A note for the card where the interval contains the allowed rise."""
        if self.interval is None or not self.interval[0] <= self.gate.eer_rise < self.interval[1]:
            return None
        rise = f"{self._span()} and was accepted by --accept-unproven" if self.is_unproven else self._span()
        return f"too few trials for the limit of {self.gate.max_eer_rise:.2f} %: the EER's rise is {rise}"

    def _span(self) -> str:
        rise, (low, high) = self.rise or 0.0, self.interval or (0.0, 0.0)
        return f"{100 * rise:.2f} % absolute ({100 * low:+.2f} to {100 * high:+.2f}, 95 %)"


UNMEASURED = card.Accuracy(False, "no trials were given to verify with", None, 0, *[None] * 7)


class Rejected(ShrikeError):  # noqa: N818 - a judgement, not a failure
    """The model did not pass the gate; nothing was written."""

    kind, code = "rejected", REJECTED

    def __init__(self, comparison: Comparison | None, faults: list[str], advice: str) -> None:
        super().__init__(f"{'; '.join(faults)}. Nothing was written. {advice}")
        self.comparison, self.faults = comparison, faults


def compare(
    before: Scores, after: Scores, labels: NDArray[np.int64] | None, gate: GateOptions, windows: int = 1, name: str = ""
) -> Comparison:
    """Compare two models' scores (n,), `windows` successive ones of each trial; without labels only their agreement.

    `name` is that of the trials, for the card.
    """
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ShrikeError("a model gives scores that are not finite; train or export it again")
    constant = np.ptp(before) == 0 or np.ptp(after) == 0  # no correlation is defined
    agreement = replace(
        UNMEASURED,
        reason="EER was not measured: the trials have no labels; agreement only",
        partition=name,
        trials=len(before) // windows,
        correlation=0.0 if constant else float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1)),
        largest_change=float(np.abs(after - before).max()),
    )
    if labels is None:
        return Comparison(gate, windows, agreement)
    true = labels == 1
    _, low, high = paired_bootstrap_eer_difference(after, before, true, gate.bootstrap, together=windows)
    eers = [metrics.eer(scores[true], scores[~true]) for scores in (before, after)]
    costs: list[float | None] = [None, None]
    if gate.asv is not None:
        errors = read_asv_scores(gate.asv).errors()
        costs = [metrics.min_tdcf_2019(scores[true], scores[~true], errors) for scores in (before, after)]
    measured = replace(
        agreement,
        measured=True,
        reason="",
        eer_float=eers[0],
        eer=eers[1],
        eer_change_interval=(low, high),
        min_tdcf_float=costs[0],
        min_tdcf=costs[1],
    )
    return Comparison(gate, windows, measured)


def show(comparison: Comparison, faults: Sequence[str], names: tuple[str, str] = ("float", "INT8")) -> None:
    """Print the comparison and its faults as a table on stderr."""
    from rich.box import SIMPLE
    from rich.table import Table

    table, found = Table("on the same trials", *names, "change", box=SIMPLE), comparison.accuracy
    for column in table.columns[1:]:
        column.justify = "right"
    if (rise := comparison.rise) is not None and found.eer_change_interval is not None:
        rates = (f"{100 * (rate or 0.0):.2f}" for rate in (found.eer_float, found.eer))
        low, high = found.eer_change_interval
        table.add_row("EER %", *rates, f"{100 * rise:+.2f}, {100 * low:+.2f} to {100 * high:+.2f} (95 %)")
    if found.min_tdcf_float is not None and found.min_tdcf is not None:
        change = found.min_tdcf - found.min_tdcf_float
        table.add_row("min t-DCF", f"{found.min_tdcf_float:.4f}", f"{found.min_tdcf:.4f}", f"{change:+.4f}")
    table.add_row("correlation of scores", "", "", f"{found.correlation:.5f}")
    table.add_row("largest change of a score", "", "", f"{found.largest_change:.3f}")
    windows = "" if comparison.windows == 1 else f", {comparison.windows} windows of each"
    labels = ", without labels" if comparison.rise is None else ""
    table.add_row("trials", "", "", f"{found.trials:,}{windows}{labels}")
    for fault in faults:
        table.add_row(f"[red]failed[/red]: {fault}")
    CONSOLE.print(table)
