"""The map from a model's raw scores to log-likelihood ratios, fitted on the verification trials.

score, reason = fit_score(scores, labels, "dev.txt")       # reason: "" or why it could not be fitted
score.scale * raw + score.offset                           # log-likelihood ratio
"""

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ScoreMap
from train.evaluate.calibration import fit_llr

UNFITTED = ScoreMap(scale=1.0, offset=0.0, threshold=0.0, fitted_on=None)  # raw scores: the sign decides


def fit_score(scores: NDArray[np.float64] | None, labels: NDArray[np.int64] | None, name: str) -> tuple[ScoreMap, str]:
    """Fit the map (train.evaluate.calibration); return it and, if it failed, the reason."""
    if scores is None:
        return UNFITTED, "there were no trials to fit them on; give --verification CORPUS"
    if labels is None:
        return UNFITTED, "the trials had no labels; give a protocol with labels"
    scale, offset = fit_llr(scores, labels)
    if scale <= 0:
        return UNFITTED, "on the development trials this model is worse than chance: higher scores are not bona fide"
    return ScoreMap(scale=scale, offset=offset, threshold=-offset / scale, fitted_on=name), ""
