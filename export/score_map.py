"""The map from a model's raw scores to log-likelihood ratios, fitted on the verification trials.

score, reason = fit_score(scores, labels, "dev.txt")       # reason: "" or why it could not be fitted
score.scale * raw + score.offset                           # log-likelihood ratio
"""

import numpy as np
from numpy.typing import NDArray

from runtime.card.model_card import ScoreMap

NEWTON_STEPS = 50
RIDGE = 1e-6  # keeps the fit finite where the classes are separable

UNFITTED = ScoreMap(scale=1.0, offset=0.0, threshold=0.0, fitted_on=None)  # raw scores: the sign decides


def fit_score(scores: NDArray[np.float64] | None, labels: NDArray[np.int64] | None, name: str) -> tuple[ScoreMap, str]:
    """Fit an affine map by logistic regression with equal class weights; return it and, if it failed, the reason.

    Newton's method on two numbers, with standardised scores. With equal weights the log-odds are the ratio itself.
    """
    if scores is None:
        return UNFITTED, "there were no trials to fit them on; give --verification CORPUS"
    if labels is None:
        return UNFITTED, "the trials had no labels; give a protocol with labels"
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
        theta -= step / max(1.0, float(np.abs(step).max()))  # at most one standard deviation a step
        if np.abs(step).max() < 1e-10:
            break
    scale = float(theta[0]) / spread
    if scale <= 0:
        return UNFITTED, "on the development trials this model is worse than chance: higher scores are not bona fide"
    offset = float(theta[1]) - scale * mean
    return ScoreMap(scale=scale, offset=offset, threshold=-offset / scale, fitted_on=name), ""
