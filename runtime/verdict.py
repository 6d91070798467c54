"""Turn scores into verdicts: log-likelihood ratio, probability, and a state with hysteresis.

    tracker = VerdictTracker(card.score, interval=framer.interval)
    verdict = tracker.update(score, quality, voice)       # verdict.state, verdict.p_spoof

    raw score --card's map--> LLR --mean over SMOOTHING--> LLR' --prior--> P(spoof) --hysteresis--> state

    P(spoof)   0 ......... 0.3 ............ 0.5 ............ 0.9 ......... 1
    enters     bonafide ---|                                 |--- spoof
    stays      bonafide --------------------|--------------------- spoof       between them: unsure

The card has the probability that enters spoof; `sure` replaces it, and enters bonafide at 1 - sure.

Only voice is judged. These states come first, in this order:

    no-voice     less than 0.3 s of voice in the window; the mean and the hysteresis start anew
    too-short    less than 1 s of voice since then
    warming-up   less than 3 s of voice since then, or less than a full window of sound: a first impression, no claim
    unsure       an input whose flags disable a claim, whatever the score (runtime.audio.quality.DISABLING)
"""

import math
from dataclasses import dataclass
from typing import Literal

from runtime.audio.framer import Score
from runtime.audio.quality import DISABLING, Quality
from runtime.card.model_card import ScoreMap
from runtime.support.errors import ShrikeError

UNFITTED = "this model's scores are not fitted to probabilities: read P(spoof) as a rank, not as a probability"
SMOOTHING = 1.0  # s, time constant of the mean over log-likelihood ratios; windows overlap by 4.9 s anyway
BONAFIDE = 0.3  # P(spoof) at which bonafide is entered; both states are left at one half
WINDOW_VOICE = 0.3  # s of voice in a window from which on it is scored
IMPRESSION = 1.0  # s of voice from which on a first impression is given
CLAIM = 3.0  # s of voice that a claim needs

State = Literal["no-voice", "too-short", "warming-up", "bonafide", "spoof", "unsure"]


@dataclass(frozen=True)
class Verdict:
    """The state at `time`; score, llr, smoothed and p_spoof are None where nothing was judged."""

    time: float  # s since the stream began
    state: State
    score: float | None  # of the model
    llr: float | None  # natural logarithm of P(window | bona fide) / P(window | spoof), by the card's map
    smoothed: float | None  # its running mean
    p_spoof: float | None  # from that mean and the prior
    voiced: float  # s of voice in the window
    spoken: float  # s of voice since the last window without voice
    quality: Quality


class VerdictTracker:
    """Holds the running mean, the hysteresis and the seconds of voice of one stream."""

    def __init__(
        self,
        score_map: ScoreMap,
        interval: float,
        prior: float = 0.5,
        smoothing: float = SMOOTHING,
        sure: float | None = None,
    ) -> None:
        """`prior`: share of spoofs where the device is used; `interval`: s between scores."""
        if not 0 < prior < 1:
            raise ShrikeError(f"prior {prior}: expected a probability above 0 and below 1")
        if sure is not None and not 0.5 < sure < 1:
            raise ShrikeError(f"sure {sure}: expected a probability above 0.5 and below 1")
        if not 0 <= smoothing <= 3600:
            raise ShrikeError(f"smoothing {smoothing}: expected 0 to 3600 seconds")
        self._map = score_map
        self.spoof, self.bonafide = (score_map.sure, BONAFIDE) if sure is None else (sure, 1 - sure)
        self._prior = math.log((1 - prior) / prior)
        self._weight = 1.0 if smoothing == 0 else 1 - math.exp(-interval / smoothing)
        self.reset(0.0)

    def reset(self, total: float) -> None:
        """Start anew, as after a gap: another person may speak. `total`: s of voice in the stream so far."""
        self._mean: float | None = None
        self._claim: State = "unsure"
        self._before = total  # s of voice that no longer count

    def p_spoof(self, llr: float) -> float:
        return 1 / (1 + math.exp(min(700.0, llr + self._prior)))

    def update(self, score: Score, quality: Quality, voiced: float, total: float) -> Verdict:
        """Judge one more window. The score of a window without voice is ignored: it may be NaN.

        `voiced`: s of voice in the window; `total`: s of voice since the stream began.
        """
        if voiced < WINDOW_VOICE:
            self.reset(total)
        spoken = total - self._before
        if spoken < IMPRESSION:
            state: State = "no-voice" if voiced < WINDOW_VOICE else "too-short"
            return Verdict(score.time, state, None, None, None, None, voiced, spoken, quality)
        llr = self._map.llr(score.value)
        mean = llr if self._mean is None else self._mean + self._weight * (llr - self._mean)
        self._mean, p_spoof = mean, self.p_spoof(mean)
        state = self._state(p_spoof, quality)
        if score.warming or spoken < CLAIM:
            state = "warming-up"
        return Verdict(score.time, state, score.value, llr, mean, p_spoof, voiced, spoken, quality)

    def _state(self, p_spoof: float, quality: Quality) -> State:
        left = (self._claim == "spoof" and p_spoof < 0.5) or (self._claim == "bonafide" and p_spoof > 0.5)
        if DISABLING & set(quality.flags):
            self._claim = "unsure"
        elif p_spoof >= self.spoof:
            self._claim = "spoof"
        elif p_spoof <= self.bonafide:
            self._claim = "bonafide"
        elif left:
            self._claim = "unsure"
        return self._claim
