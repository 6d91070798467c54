"""EER, min t-DCF, DCF and Cllr of countermeasure scores, as the ASVspoof organisers compute them.

    rate = eer(bonafide, spoof)                                        # scores (n,) and (m,) -> 0..1
    cost = min_tdcf_2021(bonafide, spoof, read_asv_scores(path).errors())

A higher score means bona fide. Thresholds, ties and constants are the organisers'. train.evaluate.bootstrap has
confidence intervals, train.evaluate.scorefile reads and writes scores.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from runtime.support.errors import ShrikeError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

# The evaluation plans of ASVspoof 2019, 2021 and 5 share these. Priors and costs have no unit.
PRIOR_SPOOF = 0.05
PRIOR_TARGET = 0.99 * (1 - PRIOR_SPOOF)  # 0.9405: the claimed speaker
PRIOR_NONTARGET = 0.01 * (1 - PRIOR_SPOOF)  # 0.0095: another speaker, bona fide
COST_MISS = 1.0  # rejecting a bona fide target, by the countermeasure or by the speaker verification (ASV)
COST_FALSE_ALARM = 10.0  # accepting a spoof or another speaker
DCF_MISS = COST_MISS * (1 - PRIOR_SPOOF)  # 0.95: cost of rejecting everything
DCF_FALSE_ALARM = COST_FALSE_ALARM * PRIOR_SPOOF  # 0.5: cost of accepting everything
BAYES_THRESHOLD = -math.log(DCF_MISS / DCF_FALSE_ALARM)  # -0.642 nat: the optimal threshold of log-likelihood ratios
BELOW_ALL = 0.001  # distance of the first threshold below the lowest score, in the scores' unit


# ---------------------------------------------------------------- one system's errors over all thresholds


class DetCurve(NamedTuple):
    """Both error rates from accepting to rejecting everything, a point per threshold; arrays (trials + 1,)."""

    miss: Floats  # rises from 0 to 1: bona fide trials at or below this threshold
    false_alarm: Floats  # falls from 1 to 0: spoofed trials above it
    thresholds: Floats


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> DetCurve:
    """Compute the DET curve of scores (bonafide,) and (spoof,).

    One point per trial, also among equal scores, where bona fide come first. This is the organisers' rule for ties and
    the harshest one: scores that are all equal have an EER of 100 %.
    """
    return curve_of(*ranked(bonafide, spoof))


def eer_threshold(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Return the equal error rate (0..1), the mean of both rates where they are closest, and its threshold."""
    return equal_error(det_curve(bonafide, spoof))


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Return the equal error rate (0..1)."""
    return eer_threshold(bonafide, spoof)[0]


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Return ASVspoof 5's detection cost at the best threshold; 1 is the cost of the better constant answer."""
    return least_cost(det_curve(bonafide, spoof), DCF_MISS, DCF_FALSE_ALARM)


def actual_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Return ASVspoof 5's detection cost at the Bayes threshold; its excess over `min_dcf` is a calibration loss."""
    miss = np.mean(checked(bonafide, "bona fide") < BAYES_THRESHOLD)
    false_alarm = np.mean(checked(spoof, "spoofed") >= BAYES_THRESHOLD)
    return float((DCF_MISS * miss + DCF_FALSE_ALARM * false_alarm) / min(DCF_MISS, DCF_FALSE_ALARM))


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Return the cost of log-likelihood ratios (Brümmer and du Preez 2006) in bit: 0 is perfect, 1 uninformative."""
    # logaddexp(0, x) is log(1 + exp(x)) without overflow; the organisers' code gives infinity beyond 709.
    of_bonafide = np.mean(np.logaddexp(0, -checked(bonafide, "bona fide")))
    of_spoof = np.mean(np.logaddexp(0, checked(spoof, "spoofed")))
    return float(of_bonafide + of_spoof) / 2 / math.log(2)


def min_cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Return the Cllr after the best rising map of the scores, by pooling adjacent violators, in bit.

    Equal scores are pooled. The excess of `cllr` over it is a calibration loss (Brümmer and du Preez 2006).
    """
    pools = list[tuple[int, int]]()  # bona fide and spoofed trials that share one ratio, in rising order
    for true in ranked(bonafide, spoof)[1].tolist():
        pools.append((int(true), int(not true)))
        while len(pools) > 1 and pools[-2][0] * sum(pools[-1]) >= pools[-1][0] * sum(pools[-2]):
            (a, b), (c, d) = pools.pop(), pools.pop()
            pools.append((a + c, b + d))
    bona, fake = (sum(pool[place] for pool in pools) for place in (0, 1))
    cost = 0.0  # pools of one class cost nothing
    for mine, theirs in pools:
        if mine and theirs:
            ratio = mine * fake / (theirs * bona)
            cost += mine / bona * math.log2(1 + 1 / ratio) + theirs / fake * math.log2(1 + ratio)
    return cost / 2


def checked(values: ArrayLike, what: str) -> Floats:
    """Require a non-empty vector of finite scores."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ShrikeError(f"{what} scores have the shape {scores.shape}; expected one number per trial")
    if scores.size == 0:
        raise ShrikeError(f"there are no {what} scores; expected at least one; check the keys of the trials")
    if unusable := int(np.count_nonzero(~np.isfinite(scores))):
        raise ShrikeError(
            f"{unusable:,} of {scores.size:,} {what} scores are NaN or infinite; expected finite numbers; "
            "find the trials on which the model fails (a silent clip, a diverged training) and score them again"
        )
    return scores


def ranked(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Bools]:
    """Return scores in rising order and whether each is bona fide, both (trials,)."""
    bona, fake = checked(bonafide, "bona fide"), checked(spoof, "spoofed")
    scores, is_bonafide = np.concatenate((bona, fake)), np.arange(bona.size + fake.size) < bona.size
    order = ranking(scores, is_bonafide)
    return scores[order], is_bonafide[order]


def ranking(scores: Floats, is_bonafide: Bools) -> NDArray[np.intp]:
    """Return the order (trials,) of rising scores, bona fide first among equals."""
    return np.lexsort((~is_bonafide, scores))


def curve_of(scores: Floats, is_bonafide: Bools) -> DetCurve:
    missed = np.concatenate(([0], np.cumsum(is_bonafide)))
    refused = np.arange(missed.size) - missed  # spoofed trials at or below this threshold
    return DetCurve(
        missed / missed[-1], (refused[-1] - refused) / refused[-1], np.concatenate(([scores[0] - BELOW_ALL], scores))
    )


def equal_error(curve: DetCurve) -> tuple[float, float]:
    closest = int(np.argmin(np.abs(curve.miss - curve.false_alarm)))
    return float(curve.miss[closest] + curve.false_alarm[closest]) / 2, float(curve.thresholds[closest])


def least_cost(curve: DetCurve, miss: float, false_alarm: float, fixed: float = 0.0) -> float:
    """Return the smallest weighted cost on the curve over the cost of the better constant answer."""
    cost = fixed + np.min(miss * curve.miss + false_alarm * curve.false_alarm)
    return float(cost / (fixed + min(miss, false_alarm)))


# ---------------------------------------------------------------- in tandem with speaker verification (ASV)


@dataclass(frozen=True)
class AsvErrors:
    """Error rates (0..1) of the speaker verification (ASV) at its own EER threshold."""

    miss: float  # targets rejected
    false_alarm: float  # other speakers accepted
    spoof_false_alarm: float  # spoofs accepted
    threshold: float | None = None  # None if only the rates are published, as by ASVspoof 5


@dataclass(frozen=True, eq=False)
class AsvScores:
    """ASV scores: (targets,), (nontargets,), (spoofs,), and the attack of each spoof."""

    target: Floats
    nontarget: Floats
    spoof: Floats
    spoof_attack: NDArray[np.str_]

    def errors(self, attack: str | None = None) -> AsvErrors:
        """Return error rates over all spoofs or those of one attack."""
        spoof = self.spoof if attack is None else self.spoof[self.spoof_attack == attack]
        return asv_errors(self.target, self.nontarget, spoof)


def asv_errors(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> AsvErrors:
    """Return ASV error rates at the EER threshold of targets and nontargets."""
    target, nontarget = checked(target, "ASV target"), checked(nontarget, "ASV nontarget")
    _, threshold = eer_threshold(target, nontarget)
    return AsvErrors(
        miss=float(np.mean(target < threshold)),
        false_alarm=float(np.mean(nontarget >= threshold)),
        spoof_false_alarm=float(np.mean(checked(spoof, "ASV spoof") >= threshold)),
        threshold=threshold,
    )


def min_tdcf_2019(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Return ASVspoof 2019's normalised min t-DCF (Kinnunen et al. 2018), of the countermeasure's errors alone."""
    return tandem_2019(det_curve(bonafide, spoof), asv)


def min_tdcf_2021(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Return ASVspoof 2021's normalised min t-DCF (Kinnunen et al. 2020), the ASV system's errors included."""
    return tandem_2021(det_curve(bonafide, spoof), asv)


def tandem_2019(curve: DetCurve, asv: AsvErrors) -> float:
    _, miss, false_alarm = _tandem_costs(asv)
    return least_cost(curve, miss, false_alarm)


def tandem_2021(curve: DetCurve, asv: AsvErrors) -> float:
    verification, miss, false_alarm = _tandem_costs(asv)
    return least_cost(curve, miss, false_alarm, fixed=verification)


def _tandem_costs(asv: AsvErrors) -> tuple[float, float, float]:
    """Return C0, C1 and C2 of the 2021 plan; C1 and C2 of the 2019 plan are equal to these.

    They are the costs of ASV errors, of rejecting all bona fide trials and of accepting all spoofs.
    """
    verification = PRIOR_TARGET * COST_MISS * asv.miss + PRIOR_NONTARGET * COST_FALSE_ALARM * asv.false_alarm
    miss = PRIOR_TARGET * COST_MISS - verification
    false_alarm = PRIOR_SPOOF * COST_FALSE_ALARM * asv.spoof_false_alarm
    if miss <= 0 or false_alarm <= 0:
        raise ShrikeError(
            f"the ASV system misses {asv.miss:.1%} of the targets and accepts {asv.spoof_false_alarm:.1%} of the "
            "spoofs; the t-DCF is defined only for one that works and accepts some spoofs; check the ASV scores"
        )
    return verification, miss, false_alarm
