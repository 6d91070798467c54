"""From scores to something a person can act on: a likelihood ratio, a probability, a state that does not flicker.

    judge = VerdictTracker(card.score, interval=scorer.interval)
    verdict = judge.update(score, quality)       # verdict.state, verdict.p_spoof

    raw score --card's map--> LLR --mean over SMOOTHING--> LLR' --prior--> P(spoof) --hysteresis--> state

    P(spoof)   0 ......... 0.3 ............ 0.5 ............ 0.7 ......... 1
    enters     bonafide ---|                                 |--- spoof
    stays      bonafide --------------------|--------------------- spoof       between them: unsure

`silence` (nothing loud for 2 s) and `warming-up` (less than a window heard) come before any of these, and a line that
removes what the model looks at makes it `unsure`, whatever the score.
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
FORGOTTEN = 5.0  # s of silence after which nothing of the last speaker is left in the window, nor shall be in the mean

State = Literal["warming-up", "silence", "bonafide", "spoof", "unsure"]


@dataclass(frozen=True)
class Verdict:
    """What is known at `time`."""

    time: float  # s since the stream began
    state: State
    score: float  # of the network
    llr: float  # natural logarithm of P(window | bona fide) / P(window | spoof), by the card's map
    smoothed: float  # its running mean
    p_spoof: float  # from that mean and the prior
    quality: Quality


class VerdictTracker:
    """Keeps a running mean and the last state, nothing else."""

    def __init__(
        self, score_map: ScoreMap, interval: float, prior: float = 0.5, smoothing: float = SMOOTHING, sure: float = SURE
    ) -> None:
        """`prior`: how often speech is a spoof where this device stands; `interval`: s between scores."""
        if not 0 < prior < 1:
            raise ShrikeError(f"prior {prior}: a probability between 0 and 1 was expected, without both ends")
        if not 0.5 < sure < 1:
            raise ShrikeError(f"sure {sure}: a probability above 0.5 and below 1 was expected")
        if not 0 <= smoothing <= 3600:
            raise ShrikeError(f"smoothing {smoothing}: seconds from 0 to 3600 were expected")
        self._map, self._interval, self._sure = score_map, interval, sure
        self._prior = math.log((1 - prior) / prior)
        self._weight = 1.0 if smoothing == 0 else 1 - math.exp(-interval / smoothing)
        self.reset()

    def reset(self) -> None:
        """After a gap: somebody else may speak."""
        self._mean: float | None = None
        self._held: State = "unsure"
        self._silence = 0.0  # s

    def p_spoof(self, llr: float) -> float:
        return 1 / (1 + math.exp(min(700.0, llr + self._prior)))

    def update(self, score: Score, quality: Quality) -> Verdict:
        """One more score; the mean does not move while nobody speaks."""
        llr = self._map.llr(score.value)
        self._silence = self._silence + self._interval if quality.silent else 0.0
        if self._silence > FORGOTTEN:
            self._mean, self._held = None, "unsure"
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
            self._held = "unsure"
            return "unsure"
        left = (self._held == "spoof" and p_spoof < 0.5) or (self._held == "bonafide" and p_spoof > 0.5)
        if p_spoof >= self._sure:
            self._held = "spoof"
        elif p_spoof <= 1 - self._sure:
            self._held = "bonafide"
        elif left:
            self._held = "unsure"
        return "warming-up" if score.warming else self._held
