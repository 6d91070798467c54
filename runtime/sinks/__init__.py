"""Who looks at the verdicts. A sink takes what interests it and leaves the rest alone.

jsonl.py writes lines for programs, lines.py lines for people, meter.py draws on a terminal, recorder.py keeps the
sound, timeline.py plots a file. They are called from the one loop that scores, so none of them may wait for long.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runtime.audio.features import Samples
from runtime.verdict import Verdict

if TYPE_CHECKING:
    from runtime.summary import Summary


@dataclass(frozen=True)
class StreamInfo:
    """What is going to be scored, by what."""

    source: str
    live: bool
    model: str
    engine: str  # ONNX Runtime or TensorRT
    precision: str
    calibrated: bool  # whether the card's map was fitted; if not, llr is the raw score
    interval: float  # s between verdicts
    prior: float
    band: tuple[float, float]  # Hz that the model looks at
    rate: int  # Hz of the samples that `sound` gets
    threshold: float  # the card's: raw scores from there on speak for bona fide


class Sink:
    """Does nothing with anything."""

    def begin(self, opening: StreamInfo) -> None:
        """A source was opened."""

    def sound(self, samples: Samples) -> None:
        """What the model is about to hear, (n,); also empty, as a sign of life."""

    def verdict(self, verdict: Verdict, latency: float | None) -> None:
        """`latency` is the time in s since its newest sample arrived; None where sound does not come live."""

    def gap(self, time: float, lost: float, restarted: bool) -> None:
        """Sound is missing up to `time`; `restarted`: so much that the window begins again."""

    def note(self, text: str) -> None:
        """A sentence for whoever watches."""

    def end(self, summary: "Summary") -> None:
        """A source has ended."""

    def close(self) -> None:
        """Give back terminal and files; a second call does nothing."""
