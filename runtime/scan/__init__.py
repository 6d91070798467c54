"""Verdicts for many files: `python -m runtime.scan`."""
