"""Metrics of the service in Prometheus' format; docs/serve.md lists what to watch.

metrics = Metrics()
metrics.refused.labels("streams").inc()
body = metrics.expose()
"""

from collections import deque

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from runtime.audio.features import Samples
from runtime.card.model_card import ModelCard
from runtime.sinks import Sink, StreamInfo
from runtime.verdict import Verdict

RECENT = 4096  # verdicts behind the quantiles of lateness
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.13, 0.25, 0.5, 1, 2.5)  # s; 0.13 s is a streaming model's step


class Metrics:
    """Counters of one service. Safe to use from any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.streams = Gauge("shrike_streams", "Streams that are open", registry=registry)
        self.uploads = Gauge("shrike_uploads", "Uploads that are received or scored", registry=registry)
        self.sound = Counter("shrike_sound_seconds", "Sound of streams that was scored", registry=registry)
        self.busy = Counter("shrike_busy_seconds", "Processor time of the thread that scores", registry=registry)
        self.dropped = Counter("shrike_dropped_seconds", "Sound of streams that was dropped", registry=registry)
        self.verdicts = Counter("shrike_verdicts", "Verdicts of streams", ["state"], registry=registry)
        self.files = Counter("shrike_files", "Uploads by their result", ["state"], registry=registry)
        self.refused = Counter("shrike_refused", "Requests refused", ["reason"], registry=registry)
        self.late = Histogram(
            "shrike_lateness_seconds", "From a sample's arrival to its verdict", buckets=BUCKETS, registry=registry
        )
        self._models = Gauge("shrike_model_info", "Models", ["use", "name", "precision", "card"], registry=registry)
        self._quantiles = Gauge(
            "shrike_lateness_recent_seconds", f"Lateness, last {RECENT} verdicts", ["share"], registry=registry
        )
        self._factor = Gauge("shrike_real_time_factor", "Processor time per second of sound", registry=registry)
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._totals = 0.0, 0.0  # busy and sound at the last exposition

    def add_model(self, use: str, name: str, card: ModelCard) -> None:
        """Expose a model: its use, name, precision, and creation time of its card."""
        self._models.labels(use, name, card.precision, card.created).set(1)

    def add_lateness(self, seconds: float) -> None:
        self.late.observe(seconds)
        self._recent.append(seconds)

    def expose(self) -> bytes:
        """Return the text for a scrape."""
        for share in (0.5, 0.99):
            self._quantiles.labels(str(share)).set(np.quantile(self._recent, share) if self._recent else float("nan"))
        busy, sound = (float(one._value.get()) for one in (self.busy, self.sound))
        if sound > self._totals[1]:
            self._factor.set((busy - self._totals[0]) / (sound - self._totals[1]))
            self._totals = busy, sound
        return generate_latest(self.registry)


class StreamCounter(Sink):
    """Counts the events of one stream."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._rate = metrics, 1

    def begin(self, info: StreamInfo) -> None:
        self._rate = info.rate

    def sound(self, samples: Samples) -> None:
        self._metrics.sound.inc(len(samples) / self._rate)

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        self._metrics.verdicts.labels(verdict.state).inc()
        if latency is not None:
            self._metrics.add_lateness(latency)

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        self._metrics.dropped.inc(lost)
