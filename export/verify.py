"""The gate: the same labelled trials through two models; too much lost means no file.

    trials = read_trials(frontend, corpus, cache_folder)            # dev, never eval
    before, after = trials.scores(float_engine), trials.scores(int8_engine)
    comparison = compare(before, after, trials.labels)
    if faults := comparison.faults(Limits()):
        raise Rejected(comparison, faults)                          # a command shows the table and exits 3

An engine is whatever turns windows (1, 1, bands, frames) into logits (1, 2). Nothing here knows torch, so that the
device can hold an engine it has just built against the ONNX file it came from.

An EER moves in steps: one bona fide and one spoofed trial that change places are 0.6 % of 330 trials, and a gate that
allows 0.2 % would judge by coin toss. So a short list gives several windows of each clip, as many as it takes for that
step to be a quarter of what is allowed: the window is what a stream scores, and a clip's first one is only the first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.graph import Floats, score
from export.int8.calibration import as_input
from runtime.audio.features import FrontEnd
from runtime.card import model_card as card
from runtime.support.errors import ShrikeError
from train.data.cache import FeatureCache, build_cache
from train.data.corpus import Trial, open_corpus
from train.evaluate import metrics
from train.evaluate.bootstrap import paired_bootstrap_eer_difference
from train.evaluate.scorefile import read_asv_scores
from train.progress import CONSOLE, Progress

FINEST = 4  # steps of the EER, at least, within the rise that is allowed
MOST_WINDOWS = 20_000  # in all: beyond it, a list has as many windows as it has trials
LEAST_CORRELATION = 0.98  # of both models' scores, where no labels can say what the difference costs
REJECTED = 3  # exit code of a command whose model did not pass
NEWTON_STEPS = 50
RIDGE = 1e-6  # keeps the fit finite where both classes are told apart without an error

Scores = NDArray[np.float64]
Engine = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Limits:
    """What may be lost."""

    eer_rise: float = 0.002  # absolute: 0.2 %
    correlation: float = LEAST_CORRELATION
    bootstrap: int = 1000  # resamples behind the interval of the difference


@dataclass(frozen=True)
class Trials:
    """Trials to verify with: `windows` of every clip, the first of them as scores are published."""

    name: str  # in words, for the card
    cache: FeatureCache
    windows: int = 1

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """1 bona fide, 0 spoof, of every window (n,); None where the protocol has no labels."""
        labels = self.cache.labels
        return None if (labels < 0).any() else np.repeat(labels, self.windows)

    def __len__(self) -> int:
        """How many windows."""
        return len(self.cache) * self.windows

    def __iter__(self) -> Iterator[Floats]:
        """Clip after clip; a clip that is shorter than a window starts its repetition elsewhere, as training does."""
        width = self.cache.frontend.width
        for clip, frames in enumerate(self.cache.lengths):
            places = frames - width if frames > width else frames
            for number in range(self.windows):
                yield as_input(self.cache.window(clip, int(places) * number // self.windows))

    def scores(self, engine: Engine, title: str = "verification") -> Scores:
        """Bona fide minus spoof of every window, (n,)."""
        scores = np.empty(len(self))
        with Progress(title, len(self), "windows") as bar:
            for place, window in enumerate(self):
                scores[place] = score(engine(window))[0]
                bar.advance()
        return scores


def read_trials(
    frontend: FrontEnd,
    corpus: Path,
    folder: Path,
    protocol: Path | None = None,
    count: int = 0,
    windows: int = 0,
    eer_rise: float = Limits.eer_rise,
    seed: int = 0,
) -> Trials:
    """The development trials of a corpus, or those of `protocol`; `count` of them by chance, 0 for all.

    `windows` of each clip; 0 takes as many as a judgement on `eer_rise` needs.
    """
    # A protocol of one's own may lack labels, which a partition called dev may not.
    partition = open_corpus(corpus, "eval" if protocol else "dev", protocol)
    trials: Sequence[Trial] = partition.trials
    if 0 < count < len(trials):
        kept = np.random.default_rng(seed).permutation(len(trials))[:count]
        trials = [trials[place] for place in sorted(kept)]
    source = partition.protocol.name if protocol else f"dev: {partition.protocol.name}"
    cache = build_cache(frontend, trials, folder)
    labels = cache.labels
    if (labels >= 0).all() and len({*labels.tolist()}) < 2:
        raise ShrikeError(
            f"{source} has one class only; the gate needs bona fide and spoofed trials, or no labels at all"
        )
    windows = windows or (1 if (labels < 0).any() else _windows_for(labels, eer_rise))
    shown = f"{source}, {len(trials):,} of {len(partition.trials):,} trials"
    return Trials(shown if windows == 1 else f"{shown}, {windows} windows of each", cache, windows)


def finest(labels: NDArray[np.int64]) -> float:
    """What an EER changes by if one bona fide and one spoofed trial change places."""
    return float(1 / np.count_nonzero(labels == 1) + 1 / np.count_nonzero(labels == 0)) / 2


def _windows_for(labels: NDArray[np.int64], eer_rise: float) -> int:
    """How many windows of a clip make the EER's step a FINEST part of the rise that is allowed."""
    wanted = int(np.ceil(FINEST * finest(labels) / max(eer_rise, 1e-9)))
    return max(1, min(wanted, MOST_WINDOWS // len(labels)))


@dataclass(frozen=True)
class Comparison:
    """Two models on the same trials: `before` is what there was, `after` what would ship. Rates in 0..1."""

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

    def faults(self, limits: Limits) -> list[str]:
        """What keeps the model from shipping, as sentences."""
        if self.eer_before is not None and self.eer_after is not None:
            rise = self.eer_after - self.eer_before
            if rise > limits.eer_rise:
                allowed = f"{100 * limits.eer_rise:.2f} is allowed (--max-eer-rise)"
                step = f"{100 * self.resolution:.3f} %"
                step = f"one pair of {self.trials * self.windows:,} windows that change places is {step}"
                return [f"EER rises by {100 * rise:.2f} % absolute, {allowed}; {step}"]
            return []
        if self.correlation < limits.correlation:
            return [f"scores correlate by {self.correlation:.4f}, at least {limits.correlation} is wanted"]
        return []

    def accuracy(self, name: str, reason: str = "") -> card.Accuracy:
        """As the card keeps it."""
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


class Rejected(ShrikeError):  # noqa: N818 - a verdict, not a mishap
    """The model lost too much: nothing was written."""

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
    """How two models' scores (n,) differ; labels None compares agreement alone. Neighbours by `windows` are a trial."""
    if not (np.isfinite(before).all() and np.isfinite(after).all()):
        raise ShrikeError("a model gives scores that are not finite; it cannot ship")
    same = np.ptp(before) == 0 or np.ptp(after) == 0  # of constants there is no correlation
    correlation = 0.0 if same else float(np.clip(np.corrcoef(before, after)[0, 1], -1, 1))
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
    """The comparison as a table on stderr, what failed under it."""
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


# ---- what a score means ----------------------------------------------------------------------------------------------


def fit_score(scores: Scores, labels: NDArray[np.int64], name: str) -> card.ScoreMap:
    """The affine map to log-likelihood ratios, by logistic regression with both classes weighed alike.

    Newton's method on two numbers; scores are standardised first. With equal weights the log-odds are the ratio itself.
    A model that is worse than chance cannot be mended by a scale: it keeps scale 1 and says that it was not fitted.
    """
    mean, spread = float(scores.mean()), max(float(scores.std()), 1e-12)
    x = np.stack([(scores - mean) / spread, np.ones(len(scores))], axis=1)  # (n, 2)
    true = labels == 1
    weight = np.where(true, 0.5 / true.sum(), 0.5 / (~true).sum())
    theta = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ theta, -30, 30)))
        gradient = x.T @ (weight * (p - true)) + RIDGE * theta
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        theta -= step / max(1.0, float(np.abs(step).max()))  # no leap beyond a standard deviation
        if np.abs(step).max() < 1e-10:
            break
    scale = float(theta[0]) / spread
    if scale <= 0:
        return unfitted()
    offset = float(theta[1]) - scale * mean
    return card.ScoreMap(scale=scale, offset=offset, threshold=-offset / scale, fitted_on=name)


def unfitted() -> card.ScoreMap:
    """Raw scores: the sign decides."""
    return card.ScoreMap(scale=1.0, offset=0.0, threshold=0.0, fitted_on=None)
