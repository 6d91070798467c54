"""Thresholds of a cascade: they save where a shallow exit knows enough, never more than allowed, and not by luck."""

import numpy as np
import pytest

from export import policy
from export.policy import NEVER, Policy, Scored
from runtime.card import Score
from train import metrics

COSTS = (20.0, 60.0, 100.0)
RNG = np.random.default_rng(4)


def made(strengths: tuple[float, ...], clips: int = 240, windows: int = 4, seed: int = 0) -> Scored:
    """Exits whose scores of the two classes lie so many deviations apart; deeper ones err on the same clips."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(clips) % 2, windows)
    shared = np.repeat(rng.standard_normal(clips), windows)
    columns = [
        strength * (labels - 0.5) + 0.8 * shared + 0.6 * rng.standard_normal(len(labels)) for strength in strengths
    ]
    return Scored(np.stack(columns, axis=1) * 3 + 1, labels, np.repeat(np.arange(clips) // 2, windows), COSTS)


def test_the_interval_is_the_best_of_all() -> None:
    """Against every pair of ends."""
    for count in (1, 2, 7, 30):
        llrs, gain = RNG.standard_normal(count), RNG.standard_normal(count)
        low, high = policy.widest(llrs, gain)
        inside = (llrs > low) & (llrs < high)
        order = np.argsort(llrs)
        sums = np.concatenate(([0.0], np.cumsum(gain[order])))
        best = max(sums[j] - sums[i] for i in range(count + 1) for j in range(i, count + 1))
        assert gain[inside].sum() == pytest.approx(best)


def test_a_window_is_decided_by_the_first_exit_that_is_certain() -> None:
    llrs = np.array([[-2.0, 0.0, 5.0], [0.0, 3.0, -5.0], [0.0, 0.0, 1.0], [2.0, 3.0, 1.0]])
    assert Policy((), ((-1.0, 1.0), (-2.0, 2.5))).decided(llrs).tolist() == [0, 1, 2, 0]
    assert Policy((), (NEVER, NEVER)).decided(llrs).tolist() == [2, 2, 2, 2]


def test_a_good_shallow_exit_saves_and_a_useless_one_does_not() -> None:
    trials = made((4.0, 4.0, 4.2))
    choice = policy.choose(trials, 0.05)
    assert choice is not None and choice.held_out.limit <= 0.05
    assert choice.held_out.multiply_adds < 0.5 and choice.fitted.multiply_adds < 0.5
    by_chance = made((0.0, 0.0, 4.0))
    found = policy.choose(by_chance, 0.002)
    assert found is None or found.held_out.multiply_adds > 0.9


def test_more_loss_never_saves_less_and_no_loss_saves_nothing() -> None:
    trials = made((1.5, 3.0, 4.0))
    costs = [choice.held_out.multiply_adds if choice else 1.0 for choice in policy.curve(trials, (1e-9, 0.01, 0.1, 1))]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.6
    assert policy.choose(trials, -1.0) is None


def test_what_was_chosen_holds_on_trials_of_the_same_kind() -> None:
    """The promise: the limit on the loss was not found by luck. Fresh trials from the same source, eight times."""
    kept = 0
    for seed in range(8):
        choice = policy.choose(made((1.5, 3.0, 4.0), seed=seed), 0.05)
        if choice is None:
            kept += 1
            continue
        fresh = policy.judge(made((1.5, 3.0, 4.0), clips=2000, seed=seed + 100), choice.policy)
        kept += fresh.loss <= 0.05
        assert abs(fresh.multiply_adds - choice.held_out.multiply_adds) < 0.15
    assert kept >= 7


def test_loss_cost_and_shares_are_what_they_are_called() -> None:
    trials = made((2.0, 3.0, 4.0))
    maps = policy.fit(trials, 0.0).maps
    cut = Policy(maps, ((-1.0, 1.0), NEVER))
    llrs, true = trials.llrs(maps), trials.labels == 1
    found = policy.judge(trials, cut)
    final = np.where((llrs[:, 0] <= -1) | (llrs[:, 0] >= 1), llrs[:, 0], llrs[:, 2])
    whole = metrics.cllr(llrs[true, 2], llrs[~true, 2])
    assert found.loss == pytest.approx(metrics.cllr(final[true], final[~true]) - whole)
    share = np.mean([(final != llrs[:, 2])[trials.labels == key].mean() for key in (0, 1)])
    assert found.multiply_adds == pytest.approx(0.2 * share + 1 - share)
    assert found.decided == pytest.approx((share, 0.0, 1 - share))
    assert found.limit > found.loss


def test_a_limit_counts_speakers_and_not_their_windows() -> None:
    """The same trials ten times over are no more trials."""
    once = made((2.0, 3.0, 4.0), windows=1)
    again = Scored(*(np.repeat(part, 10, axis=0) for part in (once.scores, once.labels, once.speakers)), COSTS)
    cut = Policy((Score(0.3, -0.3, 1.0, "dev"),) * 3, ((-0.5, 0.5), NEVER))
    assert policy.judge(again, cut).limit == pytest.approx(policy.judge(once, cut).limit)


def test_no_speaker_is_in_two_parts() -> None:
    trials = made((1.0, 1.0, 1.0), clips=101)
    parts = policy.folds(trials, 0)
    assert set(parts) == set(range(policy.FOLDS))
    assert all(len(set(parts[trials.speakers == name])) == 1 for name in set(trials.speakers))
    sizes = np.bincount(parts[trials.labels == 1])
    assert sizes.max() - sizes.min() <= 8


def test_an_exit_worse_than_chance_takes_no_part() -> None:
    trials = made((-3.0, 3.5, 4.0))
    choice = policy.choose(trials, 0.1)
    assert choice is not None and choice.policy.cuts[0] == NEVER and choice.policy.cuts[1] != NEVER
