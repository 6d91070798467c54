"""The gate: the same labelled trials through two models; a model that loses too much is not written.

    trials = read_trials(frontend, corpus, cache_folder)            # dev, never eval
    before, after = trials.scores(float_engine), trials.scores(int8_engine)
    comparison = compare(before, after, trials.labels)
    faults = comparison.faults(eer_rise=0.002)                      # none: the model may ship

This module does not need torch: a device compares the engine it has built with its ONNX file.

One bona fide and one spoofed trial that swap ranks change an EER by 0.6 % of 330 trials, more than the 0.2 % a gate
allows. So a short list gives several windows of each clip: as many as make that step a quarter of the allowed rise.

The gate judges by the 95 % bootstrap interval of the EER's change:

    allowed rise                |
    passes            [====]    |                the interval ends below it
    passes, noted          [==*=|====]           the estimate * is below it; the card notes that the trials are too few
    unproven                [===|=*====]         refused, unless --accept-unproven; then the card notes it
    lost                        |    [===*===]   refused
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graph import Floats, Forward, score
from export.int8.calibration import network_input
from runtime.audio.features import FrontEnd
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
EER_RISE = 0.002  # absolute, 0.2 %

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Trials:
    """Verification trials: `windows` of every clip, the first one where published scores are taken."""

    name: str  # for the card
    cache: FeatureCache
    windows: int = 1

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """1 bona fide, 0 spoof, of every window (n,); None where the protocol has no labels."""
        labels = self.cache.labels
        return None if (labels < 0).any() else np.repeat(labels, self.windows)

    def __len__(self) -> int:
        return len(self.cache) * self.windows

    def __iter__(self) -> Iterator[Floats]:
        """Windows clip by clip; a clip shorter than a window is repeated from different offsets, as in training."""
        width = self.cache.frontend.width
        for clip, frames in enumerate(self.cache.lengths):
            places = frames - width if frames > width else frames
            for number in range(self.windows):
                yield network_input(self.cache.window(clip, int(places) * number // self.windows))

    def scores(self, engine: Forward, title: str = "verification") -> Scores:
        """Compute bona fide minus spoof of every window, (n,)."""
        scores = np.empty(len(self))
        with Progress(title, len(self), "windows") as bar:
            for place, window in enumerate(self):
                scores[place] = score(engine(window))[0]
                bar.advance()
        return scores


def read_trials(
    frontend: FrontEnd,
    corpus: Path | CorpusIndex,
    folder: Path,
    protocol: Path | None = None,
    count: int = 0,
    windows: int = 0,
    eer_rise: float = EER_RISE,
    seed: int = 0,
) -> Trials:
    """Read the development trials of a corpus, or those of `protocol`; `count` at random, 0 for all.

    `windows` of each clip; 0 takes as many as resolve `eer_rise`.
    """
    # A protocol that was given may lack labels; the partition dev may not.
    partition = open_corpus(corpus, "eval" if protocol else "dev", protocol)
    trials: Sequence[Trial] = partition.trials
    if 0 < count < len(trials):
        drawn = np.random.default_rng(seed).permutation(len(trials))[:count]
        trials = [trials[place] for place in sorted(drawn)]
    source = partition.protocol.name if protocol else f"dev: {partition.protocol.name}"
    cache = build_cache(frontend, trials, folder)
    labels = cache.labels
    if (labels >= 0).all() and len({*labels.tolist()}) < 2:
        raise ShrikeError(f"{source} has one class only; expected bona fide and spoofed trials, or no labels at all")
    windows = windows or (1 if (labels < 0).any() else _windows_for(labels, eer_rise))
    shown = f"{source}, {len(trials):,} of {len(partition.trials):,} trials"
    return Trials(shown if windows == 1 else f"{shown}, {windows} windows of each", cache, windows)


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

    trials: int
    windows: int  # of every trial, each with its score
    labelled: bool
    correlation: float
    largest_change: float  # of a raw score
    eer_before: float | None = None
    eer_after: float | None = None
    resolution: float = 0.0  # finest step of the EER
    interval: tuple[float, float] | None = None  # of the EER's change, 95 %
    tdcf_before: float | None = None
    tdcf_after: float | None = None

    @property
    def rise(self) -> float | None:
        """Change of the EER; None without labels."""
        return None if self.eer_before is None or self.eer_after is None else self.eer_after - self.eer_before

    def is_lost(self, eer_rise: float) -> bool:
        """True if the whole interval lies above the allowed rise."""
        return self.interval is not None and self.interval[0] > eer_rise

    def is_unproven(self, eer_rise: float) -> bool:
        """True if the estimate lies above the allowed rise, but the interval contains it."""
        return self.rise is not None and self.rise > eer_rise and not self.is_lost(eer_rise)

    def faults(self, eer_rise: float, accept_unproven: bool = False) -> list[str]:
        """Reasons, as sentences, why the model must not ship."""
        if self.rise is None:
            agrees = self.correlation >= LEAST_CORRELATION
            return (
                [] if agrees else [f"scores correlate by {self.correlation:.4f}; expected {LEAST_CORRELATION} or more"]
            )
        if self.is_lost(eer_rise):
            return [f"EER rises by {self._span()}; allowed: {100 * eer_rise:.2f} % (--max-eer-rise)"]
        if self.is_unproven(eer_rise) and not accept_unproven:
            return [
                f"EER rises by {self._span()}; allowed: {100 * eer_rise:.2f} % (--max-eer-rise). These "
                f"{self.trials * self.windows:,} windows cannot decide: give more trials, or use --accept-unproven"
            ]
        return []

    def note(self, eer_rise: float) -> str | None:
        """A note for the card where the interval contains the allowed rise."""
        if self.interval is None or not self.interval[0] <= eer_rise < self.interval[1]:
            return None
        accepted = " and was accepted by --accept-unproven" if self.is_unproven(eer_rise) else ""
        return f"too few trials for the limit of {100 * eer_rise:.2f} %: the EER's rise is {self._span()}{accepted}"

    def _span(self) -> str:
        rise, (low, high) = self.rise or 0.0, self.interval or (0.0, 0.0)
        return f"{100 * rise:.2f} % absolute ({100 * low:+.2f} to {100 * high:+.2f}, 95 %)"

    def accuracy(self, name: str, reason: str = "") -> card.Accuracy:
        """Convert to the card's entry."""
        return card.Accuracy(
            measured=self.labelled,
            reason="" if self.labelled else reason or "EER was not measured: the trials have no labels; agreement only",
            partition=name,
            trials=self.trials,
            eer_float=self.eer_before,
            eer=self.eer_after,
            eer_change_interval=self.interval,
            min_tdcf_float=self.tdcf_before,
            min_tdcf=self.tdcf_after,
            correlation=self.correlation,
            largest_change=self.largest_change,
        )


UNMEASURED = card.Accuracy(False, "no trials were given to verify with", None, 0, *[None] * 7)


class Rejected(ShrikeError):  # noqa: N818 - a judgement, not a failure
    """The model did not pass the gate; nothing was written."""

    kind, code = "rejected", REJECTED

    def __init__(self, comparison: Comparison | None, faults: list[str], advice: str) -> None:
        super().__init__(f"{'; '.join(faults)}. Nothing was written. {advice}")
        self.comparison, self.faults = comparison, faults


def compare(
    before: Scores,
    after: Scores,
    labels: NDArray[np.int64] | None,
    asv: Path | None = None,
    resamples: int = 1000,
    windows: int = 1,
) -> Comparison:
    """Compare two models' scores (n,), `windows` successive ones of each trial; without labels only their agreement."""
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ShrikeError("a model gives scores that are not finite; train or export it again")
    constant = np.ptp(before) == 0 or np.ptp(after) == 0  # no correlation is defined
    correlation = 0.0 if constant else float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1))
    change = float(np.abs(after - before).max())
    if labels is None:
        return Comparison(len(before) // windows, windows, False, correlation, change)
    true = labels == 1
    _, low, high = paired_bootstrap_eer_difference(after, before, true, resamples, together=windows)
    rates = [metrics.eer(scores[true], scores[~true]) for scores in (before, after)]
    costs: list[float | None] = [None, None]
    if asv is not None:
        errors = read_asv_scores(asv).errors()
        costs = [metrics.min_tdcf_2019(scores[true], scores[~true], errors) for scores in (before, after)]
    return Comparison(
        trials=len(before) // windows,
        windows=windows,
        labelled=True,
        correlation=correlation,
        largest_change=change,
        eer_before=rates[0],
        eer_after=rates[1],
        resolution=finest(labels),
        interval=(low, high),
        tdcf_before=costs[0],
        tdcf_after=costs[1],
    )


def show(comparison: Comparison, faults: Sequence[str], names: tuple[str, str] = ("float", "INT8")) -> None:
    """Print the comparison and its faults as a table on stderr."""
    from rich.box import SIMPLE
    from rich.table import Table

    def percent(rate: float | None) -> str:
        return "-" if rate is None else f"{100 * rate:.2f}"

    table = Table("on the same trials", *names, "change", box=SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    interval = comparison.interval or (0.0, 0.0)
    if comparison.eer_before is not None and comparison.eer_after is not None:
        rise = f"{100 * (comparison.eer_after - comparison.eer_before):+.2f}"
        span = f"{100 * interval[0]:+.2f} to {100 * interval[1]:+.2f} (95 %)"
        table.add_row("EER %", percent(comparison.eer_before), percent(comparison.eer_after), f"{rise}, {span}")
    if comparison.tdcf_before is not None and comparison.tdcf_after is not None:
        change = comparison.tdcf_after - comparison.tdcf_before
        table.add_row("min t-DCF", f"{comparison.tdcf_before:.4f}", f"{comparison.tdcf_after:.4f}", f"{change:+.4f}")
    table.add_row("correlation of scores", "", "", f"{comparison.correlation:.5f}")
    table.add_row("largest change of a score", "", "", f"{comparison.largest_change:.3f}")
    windows = "" if comparison.windows == 1 else f", {comparison.windows} windows of each"
    labels = "" if comparison.labelled else ", without labels"
    table.add_row("trials", "", "", f"{comparison.trials:,}{windows}{labels}")
    for fault in faults:
        table.add_row(f"[red]failed[/red]: {fault}")
    CONSOLE.print(table)
