"""Bootstrap intervals of an EER, and of the EER difference between two systems on the same trials.

low, high = bootstrap_eer(bonafide, spoof)
difference, low, high = paired_bootstrap_eer_difference(scores_a, scores_b, is_bonafide)
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.support.errors import ShrikeError
from train.evaluate.metrics import Bools, Floats, eer, ranked, ranking

Counts = NDArray[np.int64]

INTERVAL = (2.5, 97.5)  # percentiles of the resampled values between which 95 % of them lie


def bootstrap_eer(bonafide: ArrayLike, spoof: ArrayLike, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % percentile interval of the EER, resampled with replacement within each class.

    It assumes independent trials: with several clips per speaker or session the true interval is wider, and a system
    without errors gets (0, 0) for any number of trials.
    """
    return interval_of(resampled_eers(ranked(bonafide, spoof)[1], resamples, seed))


def paired_bootstrap_eer_difference(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    is_bonafide: ArrayLike,
    resamples: int = 1000,
    seed: int = 0,
    together: int = 1,
) -> tuple[float, float, float]:
    """Return the EER of A minus that of B on the same trials (trials,), and its 95 % interval: difference, low, high.

    Both systems get the same resamples, so the difficulty of trials cancels. B is better if low > 0. With several
    consecutive scores per clip, `together` is their number; they are drawn as one.
    """
    keys, a, b = np.asarray(is_bonafide, dtype=bool), np.asarray(scores_a), np.asarray(scores_b)
    if not a.shape == b.shape == keys.shape:
        raise ShrikeError(
            f"scores have the shapes {a.shape} and {b.shape}, keys {keys.shape}; expected one score of each system per "
            "trial; score both systems on the same list"
        )
    if keys.size % together or (keys.reshape(-1, together) != keys[::together, None]).any():
        raise ShrikeError(f"{keys.size} scores: expected groups of {together} scores with one key per group")
    on_all = eer(a[keys], a[~keys]) - eer(b[keys], b[~keys])
    orders = [ranking(scores, keys) for scores in (a, b)]
    rng = _generator(resamples, seed)
    differences = np.empty(resamples)
    clips = keys[::together]
    drawn = np.empty(clips.size, dtype=np.int64)  # how often each is in this resample
    for index in range(resamples):
        for of_class in (clips, ~clips):
            count = int(np.count_nonzero(of_class))
            drawn[of_class] = np.bincount(rng.integers(count, size=count), minlength=count)
        of_a, of_b = (weighted_eers(keys[order], drawn[None, order // together])[0] for order in orders)
        differences[index] = of_a - of_b
    return on_all, *interval_of(differences)


def interval_of(values: Floats) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def _generator(resamples: int, seed: int) -> np.random.Generator:
    if resamples < 1 or seed < 0:
        raise ShrikeError(f"{resamples} resamples, seed {seed}: expected at least 1, and a seed of 0 or more")
    return np.random.default_rng(seed)


def resampled_eers(is_bonafide: Bools, resamples: int, seed: int) -> Floats:
    """Return EERs (resamples,) of stratified resamples of ranked trials (trials,), in O(resamples · log trials).

    An EER depends on a resample only where its two rates cross, and the number of trials below a cut is binomial.
    Bisection finds the crossing: halve the range, draw the split of its trials, continue in the half that crosses.

        low            middle             high        below low, fewer misses than false alarms;
         |----- drawn? ---|---- the rest ---|         below high, no longer
    """
    rng, trials = _generator(resamples, seed), is_bonafide.size
    bona = int(np.count_nonzero(is_bonafide))
    fake = trials - bona
    originals = np.stack([np.concatenate(([0], np.cumsum(of_class))) for of_class in (is_bonafide, ~is_bonafide)])
    low, high = np.zeros(resamples, dtype=np.int64), np.full(resamples, trials, dtype=np.int64)
    below = np.zeros((2, resamples), dtype=np.int64)  # drawn bona fide and spoofed trials below `low`
    between = np.repeat(np.array([[bona], [fake]], dtype=np.int64), resamples, axis=1)  # and from there to `high`
    for _ in range((trials - 1).bit_length()):
        middle = (low + high) // 2
        share = (originals[:, middle] - originals[:, low]) / np.maximum(originals[:, high] - originals[:, low], 1)
        first_half = rng.binomial(between, share)
        later = _gap(below[0] + first_half[0], below[1] + first_half[1], bona, fake) > 0
        low, high = np.where(later, middle, low), np.where(later, high, middle)
        below = np.where(later, below + first_half, below)
        between = np.where(later, between - first_half, first_half)
    return _eer_within(below[0], below[1], is_bonafide[low], bona, fake)


def weighted_eers(is_bonafide: Bools, drawn: Counts) -> Floats:
    """Return EERs (resamples,) of ranked trials (trials,), by how often each was drawn, (resamples, trials)."""
    missed, seen = np.cumsum(drawn * is_bonafide, axis=1), np.cumsum(drawn, axis=1)
    bona, fake = missed[:, -1], seen[:, -1] - missed[:, -1]
    # Share of the gap closed after each trial, times bona * fake.
    closed = fake[:, None] * missed + bona[:, None] * (seen - missed)
    at = np.argmax(closed >= (bona * fake)[:, None], axis=1)
    rows = np.arange(len(drawn))
    miss = missed[rows, at] - drawn[rows, at] * is_bonafide[at]
    refused = seen[rows, at] - drawn[rows, at] - miss
    return _eer_within(miss, refused, is_bonafide[at], bona, fake)


def _gap(missed: Counts, refused: Counts, bona: int | Counts, fake: int | Counts) -> Counts:
    """Return false alarm rate minus miss rate, times bona · fake: integers, so comparisons are exact."""
    return bona * (fake - refused) - fake * missed


def _eer_within(missed: Counts, refused: Counts, is_bonafide: Bools, bona: int | Counts, fake: int | Counts) -> Floats:
    """Return EERs (resamples,) whose rates cross within the copies of one trial, from the counts below it."""
    copies = _gap(missed, refused, bona, fake) // np.where(is_bonafide, fake, bona)  # up to the last point before
    miss = [(missed + beyond * is_bonafide) / bona for beyond in (copies, copies + 1)]
    false_alarm = [(fake - refused - beyond * ~is_bonafide) / fake for beyond in (copies, copies + 1)]
    # In floats, as in `equal_error`: rounding decides between two equally close points.
    before, after = (np.abs(m - f) for m, f in zip(miss, false_alarm, strict=True))
    return np.where(after < before, miss[1] + false_alarm[1], miss[0] + false_alarm[0]) / 2
