"""Scores as log-likelihood ratios: an affine map, fitted by logistic regression with equal class weights.

scale, offset = fit_llr(scores, labels)
scale * scores + offset                     # ln p(score | bona fide) / p(score | spoof)
"""

import numpy as np
from numpy.typing import NDArray

NEWTON_STEPS = 50
RIDGE = 1e-6  # keeps the fit finite where the classes are separable


def fit_llr(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Return scale and offset; the scale is negative or zero if the scores are no better than chance.

    Newton's method on two numbers, with standardised scores. With equal weights the log-odds are the ratio itself.
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
        theta -= step / max(1.0, float(np.abs(step).max()))  # at most one standard deviation a step
        if np.abs(step).max() < 1e-10:
            break
    scale = float(theta[0]) / spread
    return scale, float(theta[1]) - scale * mean
