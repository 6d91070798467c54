"""Sinks receive verdicts and the sound they are about. A sink overrides the events that it needs.

jsonl.py writes lines for programs, lines.py for people; meter.py and board.py draw on a terminal; recorder.py saves the
sound, timeline.py plots a file. The loop that scores calls them, so they must not wait.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.audio.features import Samples
from runtime.verdict import Verdict

if TYPE_CHECKING:
    from runtime.summary import Summary


@dataclass(frozen=True)
class StreamInfo:
    """The source and the model, before the first block."""

    source: str
    live: bool
    model: str
    engine: str  # ONNX Runtime or TensorRT
    precision: str
    calibrated: bool  # whether the card's score map was fitted; if not, llr is the raw score
    interval: float  # s between verdicts
    window: float  # s of sound behind one score
    prior: float
    band: tuple[float, float]  # Hz, the model's passband
    rate: int  # Hz of the samples that `sound` gets
    threshold: float  # the card's, for raw scores; bona fide from there on
    spoof_from: float  # P(spoof) at which the state becomes spoof
    bonafide_to: float  # and at which it becomes bonafide
    channel: str | None = None  # of the source, where channels are judged one by one

    @property
    def label(self) -> str:
        """Name of the source, with its channel."""
        return self.source if self.channel is None else f"{self.source} ({self.channel})"


class Sink:
    """Ignores every event."""

    failed = False  # whether output that the user asked for is lost; the exit code is then 2

    def begin(self, info: StreamInfo) -> None:
        """Start of a source."""

    def sound(self, samples: Samples) -> None:
        """Samples (n,) that are scored next; empty while no sound arrives."""

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        """A verdict; `latency`: s since its newest sample arrived, None for a source that is not live."""

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        """`lost` seconds of sound are missing before `time`; `restarted`: the window was reset."""

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def end(self, summary: "Summary") -> None:
        """End of a source."""

    def file(self, worst: "Summary", channels: int) -> None:
        """Verdict of a file whose channels were judged one by one, each as a source: that of the worst."""

    def close(self) -> None:
        """Release terminal and files; a second call does nothing."""
