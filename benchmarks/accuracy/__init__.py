"""Accuracy of models and of published score files: `python -m benchmarks.accuracy`."""
