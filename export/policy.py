"""When to stop early: thresholds on each exit's likelihood ratio that save most for a stated loss.

    trials = Scored(scores, labels, speakers, costs)      # scores (n, exits): raw ones of every exit, shallow to deep
    choice = choose(trials, max_loss=0.002)               # None: nothing is saved at this loss
    for row in curve(trials, LOSSES): ...                 # what other losses would save

**The loss** is the cascade's Cllr, the cost of log-likelihood ratios in bit (Brümmer and du Preez 2006), minus that of
the whole network. A cascade's score is the LLR of the exit at which it stopped; the runtime averages LLRs and turns
them into a probability, and Cllr is what wrong ones cost, averaged over all uses that could be made of them. An EER
sees ranks alone and would let an early exit claim any certainty; a DCF sees one threshold, and moves in steps of a
trial.

**Thresholds.** For a price per multiply-add, each exit in turn stops or goes on so that loss plus price is least, the
others given: over its sorted LLRs that is the interval with the largest sum of what going on gains, found in one pass.
Every turn lowers the total, so turns come to an end. An exit where next to nothing stops is left out. Prices below
zero belong to the choice: at zero an early exit decides wherever it did better than the last on the trials at hand, by
luck among others; below zero it must have done better by so much.

**No optimism.** The price is chosen by cross-validation: five parts of the trials that share no speaker; maps and
thresholds are fitted on four and judged on the fifth. A price is allowed if the upper end of the 95 % interval of its
held-out loss (one-sided; speakers, not windows, are what is independent) stays within what is allowed. Of those the
cheapest is taken, and fitted once more on all trials. Thresholds jump where a price moves them from one hill to
another; a price at which the parts and the whole do not agree on what is saved is no choice.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from export.verify import fit_score
from runtime.card import Score
from train import metrics

FOLDS = 5
_UPWARDS = np.geomspace(0.003, 3.0, 37)  # twelve steps for a factor of ten
PRICES = np.concatenate((-_UPWARDS[::-1], [0.0], _UPWARDS))  # bit for the whole network's multiply-adds
LOSSES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1)  # bit, of the curve
RARE = 0.01  # share of windows; an exit that decides fewer is not worth a file
LEAST_SAVING = 0.01  # of the multiply-adds, in cross-validation; below it there is no cascade
ONE_SIDED = 1.645  # standard errors to the upper end of a one-sided 95 % interval
STEADY = 0.05  # of the multiply-adds: what parts and whole may differ by in what a price saves
TURNS = 50

Floats = NDArray[np.float64]
Cut = tuple[float, float]  # LLRs: stops at or below the first, at or above the second
NEVER: Cut = (-math.inf, math.inf)


@dataclass(frozen=True, eq=False)
class Scored:
    """Development windows as every exit scores them."""

    scores: Floats  # (n, exits), raw, shallow to deep
    labels: NDArray[np.int64]  # (n,) 1 bona fide, 0 spoof
    speakers: NDArray[np.int64]  # (n,): what belongs together
    costs: tuple[float, ...]  # multiply-adds up to each exit; the last is the whole network

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, chosen: NDArray[np.bool_]) -> "Scored":
        return Scored(self.scores[chosen], self.labels[chosen], self.speakers[chosen], self.costs)

    @cached_property
    def weights(self) -> Floats:
        """(n,) Both classes weigh one half."""
        counts = np.bincount(self.labels, minlength=2)
        return 0.5 / counts[self.labels]

    @property
    def shares(self) -> Floats:
        """(exits,) Costs as parts of the whole network's."""
        return np.array(self.costs) / self.costs[-1]

    def llrs(self, maps: Sequence[Score]) -> Floats:
        """(n, exits)"""
        return np.stack([one.llr(column) for one, column in zip(maps, self.scores.T, strict=True)], axis=1)

    def losses(self, llrs: Floats) -> Floats:
        """(n, exits) bit; their sum over trials, weighted, is Cllr."""
        sign = np.where(self.labels == 1, -1.0, 1.0)[:, None]
        return np.logaddexp(0, sign * llrs) / math.log(2)


@dataclass(frozen=True)
class Policy:
    """Maps of all exits, and where each but the last stops; NEVER where one takes no part."""

    maps: tuple[Score, ...]
    cuts: tuple[Cut, ...]

    def decided(self, llrs: Floats) -> NDArray[np.intp]:
        """(n, exits) -> (n,): the place of the exit that decides."""
        stops = [(column <= low) | (column >= high) for column, (low, high) in zip(llrs.T, self.cuts, strict=False)]
        return np.argmax([*stops, np.ones(len(llrs), bool)], axis=0)


@dataclass(frozen=True)
class Outcome:
    """What a policy gives on some trials."""

    loss: float  # bit of Cllr beyond the whole network's
    limit: float  # upper end of its one-sided 95 % interval
    multiply_adds: float  # mean, as a part of the whole network's
    eer: float  # of the cascade's LLRs
    decided: tuple[float, ...]  # shares by exit


@dataclass(frozen=True)
class Choice:
    """A policy that was fitted on all trials, and what to expect of it."""

    max_loss: float
    policy: Policy
    held_out: Outcome  # by cross-validation
    fitted: Outcome  # on the trials that fitted it


def choose(trials: Scored, max_loss: float, seed: int = 0) -> Choice | None:
    """The policy that saves most within the loss; None where none does."""
    (choice,) = curve(trials, [max_loss], seed)
    return choice


def curve(trials: Scored, losses: Iterable[float], seed: int = 0) -> list[Choice | None]:
    """The choice for each of these allowed losses."""
    tried = []
    for price in map(float, PRICES):
        held_out, policy = cross_validate(trials, price, seed), fit(trials, price)
        fitted = judge(trials, policy)
        steady = abs(held_out.multiply_adds - fitted.multiply_adds) <= STEADY
        saving = max(held_out.multiply_adds, fitted.multiply_adds) <= 1 - LEAST_SAVING
        if steady and saving:
            tried.append(Choice(math.nan, policy, held_out, fitted))
    choices: list[Choice | None] = []
    for max_loss in losses:
        allowed = [replace(choice, max_loss=max_loss) for choice in tried if choice.held_out.limit <= max_loss]
        choices.append(min(allowed, key=lambda choice: choice.held_out.multiply_adds, default=None))
    return choices


def cross_validate(trials: Scored, price: float, seed: int) -> Outcome:
    """Every window judged by a policy that has not seen its speaker."""
    parts = folds(trials, seed)
    llrs, decided = np.empty_like(trials.scores), np.empty(len(trials), np.intp)
    for part in range(FOLDS):
        held = parts == part
        if held.any():
            policy = fit(trials.part(~held), price)
            llrs[held] = trials.part(held).llrs(policy.maps)
            decided[held] = policy.decided(llrs[held])
    return outcome(trials, llrs, decided)


def alone(trials: Scored) -> list[tuple[float, float]]:
    """EER and Cllr of every exit by itself, with the maps that are fitted on the same trials."""
    true = trials.labels == 1
    llrs = trials.llrs([fit_score(column, trials.labels, "dev") for column in trials.scores.T])
    return [(metrics.eer(column[true], column[~true]), metrics.cllr(column[true], column[~true])) for column in llrs.T]


def folds(trials: Scored, seed: int) -> NDArray[np.int64]:
    """(n,) Which part each window belongs to: speakers stay whole, the largest first to where their class is rarest."""
    names, place = np.unique(trials.speakers, return_inverse=True)
    counts = np.stack([np.bincount(place[trials.labels == key], minlength=len(names)) for key in (0, 1)], axis=1)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    filled, part = np.zeros((FOLDS, 2)), np.empty(len(names), np.int64)
    for name in order:
        part[name] = int(np.argmin(filled @ counts[name]))
        filled[part[name]] += counts[name]
    return part[place]


def fit(trials: Scored, price: float) -> Policy:
    """Maps and thresholds for one price, in bit for the whole network's multiply-adds."""
    maps = tuple(fit_score(column, trials.labels, "dev") for column in trials.scores.T)
    llrs = trials.llrs(maps)
    prices = trials.weights[:, None] * (trials.losses(llrs) + price * trials.shares)
    useful = [place for place, one in enumerate(maps[:-1]) if one.fitted_on is not None]  # better than chance
    while True:
        policy = Policy(maps, _settle(llrs, prices, useful))
        shares = outcome(trials, llrs, policy.decided(llrs)).decided
        rare = [place for place in useful if shares[place] < RARE]
        if not rare:
            return policy
        useful = [place for place in useful if place not in rare]


def _settle(llrs: Floats, prices: Floats, useful: Sequence[int]) -> tuple[Cut, ...]:
    """Cuts of all exits but the last, each the best for the others."""
    cuts = [NEVER] * (llrs.shape[1] - 1)
    rows = np.arange(len(llrs))
    for _ in range(TURNS):
        before = list(cuts)
        for place in reversed(useful):
            cuts[place] = NEVER  # who comes here, and what going on costs them
            onward = Policy((), tuple(cuts)).decided(llrs)
            here = onward >= place
            gain = prices[:, place] - prices[rows, onward]
            cuts[place] = widest(llrs[here, place], gain[here])
        if cuts == before:
            break
    return tuple(cuts)


def widest(llrs: Floats, gain: Floats) -> Cut:
    """The interval in which going on gains most in sum; its ends lie between two LLRs, or nowhere."""
    order = np.argsort(llrs, kind="stable")
    values, sums = llrs[order], np.concatenate(([0.0], np.cumsum(gain[order])))
    lowest = np.minimum.accumulate(sums)
    last = int(np.argmax(sums - lowest))
    first = int(np.argmin(sums[: last + 1]))
    if first == last:  # nothing gains: all stop here
        return (0.0, 0.0)
    low = -math.inf if first == 0 else float(values[first - 1] + values[first]) / 2
    high = math.inf if last == len(values) else float(values[last - 1] + values[last]) / 2
    return low, high


def judge(trials: Scored, policy: Policy) -> Outcome:
    llrs = trials.llrs(policy.maps)
    return outcome(trials, llrs, policy.decided(llrs))


def outcome(trials: Scored, llrs: Floats, decided: NDArray[np.intp]) -> Outcome:
    """Loss, its limit and cost, when those exits decide; llrs (n, exits), decided (n,)."""
    rows, weights = np.arange(len(trials)), trials.weights
    losses = trials.losses(llrs)
    rise = losses[rows, decided] - losses[:, -1]
    loss = float(weights @ rise)
    # Linear in the means of both classes, so its variance is that of sums over speakers.
    means = np.array([rise[trials.labels == key].mean() for key in (0, 1)])
    _, speakers = np.unique(trials.speakers, return_inverse=True)
    sums = np.bincount(speakers, weights * (rise - means[trials.labels]))
    error = math.sqrt(len(sums) / max(len(sums) - 1, 1) * float(sums @ sums))
    final, true = llrs[rows, decided], trials.labels == 1
    return Outcome(
        loss=loss,
        limit=loss + ONE_SIDED * error,
        multiply_adds=float(weights @ trials.shares[decided]),
        eer=metrics.eer(final[true], final[~true]),
        decided=tuple(float(weights[decided == place].sum()) for place in range(llrs.shape[1])),
    )
