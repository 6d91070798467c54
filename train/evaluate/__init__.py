"""Evaluation: scores, score files, error rates and confidence intervals."""
