"""Streaming: latency from sample to verdict, endurance, and many streams at once: `python -m benchmarks.stream`."""
