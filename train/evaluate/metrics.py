"""What a countermeasure's scores are worth: EER, min t-DCF, DCF and Cllr, as the ASVspoof organisers compute them.

    rate = eer(bonafide, spoof)                                        # scores (n,) and (m,) -> 0..1
    cost = min_tdcf_2021(bonafide, spoof, read_asv_scores(path).errors())

A higher score means bona fide, here and everywhere in Shrike. Thresholds, ties and constants are the organisers'.
train.evaluate.scorefile reads and writes scores, train.evaluate.bootstrap says how far to trust an EER, train.evaluate.summary is the command.
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
PRIOR_TARGET = 0.99 * (1 - PRIOR_SPOOF)  # 0.9405: the person who is claimed speaks
PRIOR_NONTARGET = 0.01 * (1 - PRIOR_SPOOF)  # 0.0095: another person speaks, without faking
COST_MISS = 1.0  # a bona fide speaker is turned away, by the countermeasure or by the speaker verification
COST_FALSE_ALARM = 10.0  # a spoof or another speaker gets through
DCF_MISS = COST_MISS * (1 - PRIOR_SPOOF)  # 0.95: what it costs to refuse everybody
DCF_FALSE_ALARM = COST_FALSE_ALARM * PRIOR_SPOOF  # 0.5: what it costs to believe everybody
BAYES_THRESHOLD = -math.log(DCF_MISS / DCF_FALSE_ALARM)  # -0.642 nat: the best cut if scores are log-likelihood ratios
BELOW_ALL = 0.001  # the first threshold lies this far below the lowest score, in the unit of the scores


# ---------------------------------------------------------------- one system's errors over all thresholds


class DetCurve(NamedTuple):
    """Both error rates from "believe everybody" to "refuse everybody", a point per threshold; arrays (trials + 1,)."""

    miss: Floats  # rises from 0 to 1: bona fide trials up to and including this threshold
    false_alarm: Floats  # falls from 1 to 0: spoofed trials beyond it
    thresholds: Floats


def det_curve(bonafide: ArrayLike, spoof: ArrayLike) -> DetCurve:
    """The DET curve of scores (bonafide,) and (spoof,).

    One point per trial, also among equal scores, where the bona fide come first. This is the organisers' reading of
    ties and the harshest one: scores that are all the same have an EER of 100 %.
    """
    return curve_of(*ranked(bonafide, spoof))


def eer_threshold(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[float, float]:
    """Equal error rate (0..1) and its threshold: the mean of both rates at the point where they are closest."""
    return equal_error(det_curve(bonafide, spoof))


def eer(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Equal error rate (0..1)."""
    return eer_threshold(bonafide, spoof)[0]


def min_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """ASVspoof 5: detection cost at the best threshold, where 1 is the cost of the better blind answer."""
    return least_cost(det_curve(bonafide, spoof), DCF_MISS, DCF_FALSE_ALARM)


def actual_dcf(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """ASVspoof 5: detection cost at the Bayes threshold. Above `min_dcf` by what bad calibration costs."""
    miss = np.mean(checked(bonafide, "bona fide") < BAYES_THRESHOLD)
    false_alarm = np.mean(checked(spoof, "spoofed") >= BAYES_THRESHOLD)
    return float((DCF_MISS * miss + DCF_FALSE_ALARM * false_alarm) / min(DCF_MISS, DCF_FALSE_ALARM))


def cllr(bonafide: ArrayLike, spoof: ArrayLike) -> float:
    """Cost of log-likelihood ratios (Brümmer and du Preez 2006) in bit: 0 is perfect, 1 what always saying 0 gets."""
    # logaddexp(0, x) is log(1 + exp(x)) without its overflow: the organisers' code gives infinity beyond 709.
    of_bonafide = np.mean(np.logaddexp(0, -checked(bonafide, "bona fide")))
    of_spoof = np.mean(np.logaddexp(0, checked(spoof, "spoofed")))
    return float(of_bonafide + of_spoof) / 2 / math.log(2)


def checked(values: ArrayLike, what: str) -> Floats:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise ShrikeError(f"{what} scores came with the shape {scores.shape}, but one number per trial was expected")
    if scores.size == 0:
        raise ShrikeError(f"no {what} scores came, but at least one was expected; check the keys of the trials")
    if unusable := int(np.count_nonzero(~np.isfinite(scores))):
        raise ShrikeError(
            f"{unusable:,} of {scores.size:,} {what} scores are NaN or infinite, but finite numbers were expected; "
            "find the trials the model fails on (a silent clip, a diverged training) and score them again"
        )
    return scores


def ranked(bonafide: ArrayLike, spoof: ArrayLike) -> tuple[Floats, Bools]:
    """Scores in rising order and whether each is bona fide, both (trials,)."""
    bona, fake = checked(bonafide, "bona fide"), checked(spoof, "spoofed")
    scores, is_bonafide = np.concatenate((bona, fake)), np.arange(bona.size + fake.size) < bona.size
    order = ranking(scores, is_bonafide)
    return scores[order], is_bonafide[order]


def ranking(scores: Floats, is_bonafide: Bools) -> NDArray[np.intp]:
    """The order (trials,) from the lowest score up, bona fide first among equals; the only sort of a measure."""
    return np.lexsort((~is_bonafide, scores))


def curve_of(scores: Floats, is_bonafide: Bools) -> DetCurve:
    missed = np.concatenate(([0], np.cumsum(is_bonafide)))
    refused = np.arange(missed.size) - missed  # spoofed trials up to and including this threshold
    return DetCurve(
        missed / missed[-1],
        (refused[-1] - refused) / refused[-1],
        np.concatenate(([scores[0] - BELOW_ALL], scores)),
    )


def equal_error(curve: DetCurve) -> tuple[float, float]:
    closest = int(np.argmin(np.abs(curve.miss - curve.false_alarm)))
    return float(curve.miss[closest] + curve.false_alarm[closest]) / 2, float(curve.thresholds[closest])


def least_cost(curve: DetCurve, miss: float, false_alarm: float, fixed: float = 0.0) -> float:
    """Smallest weighted cost on the curve, divided by the cost of the better blind answer."""
    cost = fixed + np.min(miss * curve.miss + false_alarm * curve.false_alarm)
    return float(cost / (fixed + min(miss, false_alarm)))


# ---------------------------------------------------------------- in tandem with speaker verification (ASV)


@dataclass(frozen=True)
class AsvErrors:
    """How often the speaker verification behind the countermeasure errs at its own EER threshold; rates in 0..1."""

    miss: float  # targets turned away
    false_alarm: float  # other speakers accepted
    spoof_false_alarm: float  # spoofs accepted: the attacks that a countermeasure is needed for
    threshold: float | None = None  # None where only the rates are published, as by ASVspoof 5


@dataclass(frozen=True, eq=False)
class AsvScores:
    """Speaker verification scores: (targets,), (nontargets,), (spoofs,), and the attack of each spoof."""

    target: Floats
    nontarget: Floats
    spoof: Floats
    spoof_attack: NDArray[np.str_]

    def errors(self, attack: str | None = None) -> AsvErrors:
        """Error rates over all spoofs or over one attack's."""
        spoof = self.spoof if attack is None else self.spoof[self.spoof_attack == attack]
        return asv_errors(self.target, self.nontarget, spoof)


def asv_errors(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> AsvErrors:
    """Error rates of a speaker verification at the threshold where it confuses targets and nontargets equally often."""
    target, nontarget = checked(target, "ASV target"), checked(nontarget, "ASV nontarget")
    _, threshold = eer_threshold(target, nontarget)
    return AsvErrors(
        miss=float(np.mean(target < threshold)),
        false_alarm=float(np.mean(nontarget >= threshold)),
        spoof_false_alarm=float(np.mean(checked(spoof, "ASV spoof") >= threshold)),
        threshold=threshold,
    )


def min_tdcf_2019(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Normalised min t-DCF of ASVspoof 2019 (Kinnunen et al. 2018): the countermeasure's errors alone, 0 if none."""
    return tandem_2019(det_curve(bonafide, spoof), asv)


def min_tdcf_2021(bonafide: ArrayLike, spoof: ArrayLike, asv: AsvErrors) -> float:
    """Normalised min t-DCF of ASVspoof 2021 (Kinnunen et al. 2020): the verification's own errors count as well."""
    return tandem_2021(det_curve(bonafide, spoof), asv)


def tandem_2019(curve: DetCurve, asv: AsvErrors) -> float:
    _, miss, false_alarm = _tandem_costs(asv)
    return least_cost(curve, miss, false_alarm)


def tandem_2021(curve: DetCurve, asv: AsvErrors) -> float:
    verification, miss, false_alarm = _tandem_costs(asv)
    return least_cost(curve, miss, false_alarm, fixed=verification)


def _tandem_costs(asv: AsvErrors) -> tuple[float, float, float]:
    """Cost of the verification's own errors, of the countermeasure missing all bona fide, of it believing all spoofs.

    C0, C1 and C2 of the 2021 plan. C1 and C2 of the 2019 plan are the same numbers, since its four costs are two pairs.
    """
    verification = PRIOR_TARGET * COST_MISS * asv.miss + PRIOR_NONTARGET * COST_FALSE_ALARM * asv.false_alarm
    miss = PRIOR_TARGET * COST_MISS - verification
    false_alarm = PRIOR_SPOOF * COST_FALSE_ALARM * asv.spoof_false_alarm
    if miss <= 0 or false_alarm <= 0:
        raise ShrikeError(
            f"a speaker verification came that misses {asv.miss:.1%} of its targets and accepts "
            f"{asv.spoof_false_alarm:.1%} of the spoofs, but the t-DCF is defined only for one that works and can be "
            "fooled; check the ASV scores"
        )
    return verification, miss, false_alarm
