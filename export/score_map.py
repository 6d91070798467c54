"""The map from a model's raw scores to log-likelihood ratios, fitted on the verification trials.

score, reason = fit_score(scores, labels, "dev.txt")       # reason: "" or why it could not be fitted
score.scale * raw + score.offset                           # log-likelihood ratio
score.sure                                                 # operating point: P(spoof) that claims spoof
"""

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import SURE, ScoreMap
from train.evaluate.calibration import fit_llr

FALSE_CLAIMS = 0.01  # share of bona fide trials that the operating point may call spoof
UNFITTED = ScoreMap(scale=1.0, offset=0.0, threshold=0.0, fitted_on=None)  # raw scores: the sign decides


def fit_score(
    scores: NDArray[np.float64] | None, labels: NDArray[np.int64] | None, name: str, sure: float | None = None
) -> tuple[ScoreMap, str]:
    """Fit the map (train.evaluate.calibration); return it and, if it failed, the reason."""
    if scores is None:
        return UNFITTED, "there were no trials to fit them on; give --verification CORPUS"
    if labels is None:
        return UNFITTED, "the trials had no labels; give a protocol with labels"
    scale, offset = fit_llr(scores, labels)
    if scale <= 0:
        return UNFITTED, "on the development trials this model is worse than chance: higher scores are not bona fide"
    if sure is None:
        sure = operating_point(scale * scores[labels == 1] + offset)
    return ScoreMap(scale=scale, offset=offset, threshold=-offset / scale, fitted_on=name, sure=sure), ""


def operating_point(llrs: NDArray[np.float64]) -> float:
    """Return the lowest hundredth, from SURE on, at which at most FALSE_CLAIMS of bona fide LLRs are called spoof."""
    p_spoof = 1 / (1 + np.exp(llrs))  # at equal priors
    grid = np.arange(round(100 * SURE), 100) / 100
    return float(next((point for point in grid if np.mean(p_spoof >= point) <= FALSE_CLAIMS), grid[-1]))
