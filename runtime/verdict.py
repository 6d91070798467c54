"""Verdicts from scores: log-likelihood ratio, probability, and a state with hysteresis.

    tracker = VerdictTracker(card.score, interval=framer.interval)
    verdict = tracker.update(score, quality)       # verdict.state, verdict.p_spoof

    raw score --score map--> LLR --mean over SMOOTHING--> LLR' --prior--> P(spoof) --hysteresis--> state

    P(spoof)   0 ......... 0.3 ............ 0.5 ............ 0.7 ......... 1
    enters     bonafide ---|                                 |--- spoof
    stays      bonafide --------------------|--------------------- spoof       between them: unsure

`silence` (no loud frame for 2 s) and `warming-up` (less than a full window) take precedence. A line that removes the
model's band makes the state `unsure`, whatever the score.
"""

import math
from dataclasses import dataclass
from typing import Literal

from runtime.audio.framer import Score
from runtime.audio.quality import BLINDING, Quality
from runtime.card.model_card import ScoreMap
from runtime.support.errors import ShrikeError

SMOOTHING = 1.0  # s, time constant of the mean over log-likelihood ratios; windows overlap by 4.9 s anyway
SURE = 0.7  # probability that a state must reach to be entered; it is left at one half
MEMORY = 5.0  # s of silence after which the window, and so the mean, holds nothing of the last speaker

State = Literal["warming-up", "silence", "bonafide", "spoof", "unsure"]


@dataclass(frozen=True)
class Verdict:
    """The verdict at `time`."""

    time: float  # s since the stream began
    state: State
    score: float  # of the model
    llr: float  # natural logarithm of P(window | bona fide) / P(window | spoof), by the card's score map
    smoothed: float  # its running mean
    p_spoof: float  # from that mean and the prior
    quality: Quality


class VerdictTracker:
    """Tracks the running mean of LLRs and the last state."""

    def __init__(
        self, score_map: ScoreMap, interval: float, prior: float = 0.5, smoothing: float = SMOOTHING, sure: float = SURE
    ) -> None:
        """`prior`: share of spoofed speech at this place; `interval`: s between scores."""
        if not 0 < prior < 1:
            raise ShrikeError(f"prior {prior}: expected a probability above 0 and below 1")
        if not 0.5 < sure < 1:
            raise ShrikeError(f"sure {sure}: expected a probability above 0.5 and below 1")
        if not 0 <= smoothing <= 3600:
            raise ShrikeError(f"smoothing {smoothing}: expected 0 to 3600 seconds")
        self._map, self._interval, self._sure = score_map, interval, sure
        self._prior = math.log((1 - prior) / prior)
        self._weight = 1.0 if smoothing == 0 else 1 - math.exp(-interval / smoothing)
        self.reset()

    def reset(self) -> None:
        """Start anew, as after a long gap: another person may speak."""
        self._mean: float | None = None
        self._claimed: State = "unsure"
        self._silence = 0.0  # s

    def p_spoof(self, llr: float) -> float:
        return 1 / (1 + math.exp(min(700.0, llr + self._prior)))

    def update(self, score: Score, quality: Quality) -> Verdict:
        """Return the verdict of one more score. The mean does not change during silence."""
        llr = self._map.llr(score.value)
        self._silence = self._silence + self._interval if quality.silent else 0.0
        if self._silence > MEMORY:
            self._mean, self._claimed = None, "unsure"
        if self._mean is None:
            mean = llr
        else:
            mean = self._mean if quality.silent else self._mean + self._weight * (llr - self._mean)
        if not quality.silent:
            self._mean = mean
        p_spoof = self.p_spoof(mean)
        return Verdict(score.time, self._state(score, quality, p_spoof), score.value, llr, mean, p_spoof, quality)

    def _state(self, score: Score, quality: Quality, p_spoof: float) -> State:
        if quality.silent:
            return "silence"
        if BLINDING & set(quality.flags):
            self._claimed = "unsure"
            return "unsure"
        left = (self._claimed == "spoof" and p_spoof < 0.5) or (self._claimed == "bonafide" and p_spoof > 0.5)
        if p_spoof >= self._sure:
            self._claimed = "spoof"
        elif p_spoof <= 1 - self._sure:
            self._claimed = "bonafide"
        elif left:
            self._claimed = "unsure"
        return "warming-up" if score.warming else self._claimed
