"""Latency of models: `python -m benchmarks.latency`."""
