"""States that do not flicker, probabilities that follow Bayes, and inputs that cannot be judged."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.framer import Score
from runtime.audio.quality import Quality
from runtime.card.model_card import ScoreMap
from runtime.support.errors import ShrikeError
from runtime.verdict import State, Verdict, VerdictTracker

MAP = ScoreMap(2.0, 0.5, -0.25, "trials")
RAW = ScoreMap(1.0, 0.0, 0.0, None)
FINE = Quality(-20.0, False, (), np.zeros(257))
SILENT = Quality(-90.0, True, (), np.zeros(257))
INTERVAL = 0.0975


def judge(**changes: float) -> VerdictTracker:
    return VerdictTracker(RAW, INTERVAL, **{"smoothing": 0.0, **changes})


def states(judge: VerdictTracker, *llrs: float, quality: Quality = FINE) -> list[State]:
    return [judge.update(Score(0.0, llr, 600, False), quality).state for llr in llrs]


def test_the_card_s_map_and_the_prior_make_the_probability() -> None:
    verdict = VerdictTracker(MAP, INTERVAL, prior=0.2, smoothing=0).update(Score(5.0, 0.25, 600, False), FINE)
    assert verdict.llr == verdict.smoothed == 1.0
    odds = math.exp(1.0) * 0.8 / 0.2
    assert verdict.p_spoof == pytest.approx(1 / (1 + odds))
    assert (verdict.time, verdict.score) == (5.0, 0.25)


def test_hysteresis() -> None:
    sure, leaning = math.log(0.7 / 0.3) + 0.01, 0.2
    assert states(judge(), -leaning, -sure, -leaning, leaning, sure, leaning, -leaning) == [
        *("unsure", "spoof", "spoof", "unsure", "bonafide", "bonafide", "unsure")
    ]


@given(noise=st.lists(st.floats(-0.3, 0.3), min_size=50, max_size=50))
@settings(max_examples=50, deadline=None)
def test_a_score_that_wavers_around_a_limit_changes_the_state_once(noise: list[float]) -> None:
    limit = math.log(0.7 / 0.3)
    found = states(judge(), *(limit + value for value in noise), limit + 0.31)
    assert sum(a != b for a, b in itertools.pairwise(found)) <= 1


def test_smoothing_has_its_time_constant() -> None:
    slow = judge(smoothing=1.0)
    states(slow, 0.0)
    steps = round(1.0 / INTERVAL)
    verdicts = [slow.update(Score(0.0, 1.0, 600, False), FINE) for _ in range(steps)]
    assert verdicts[-1].smoothed == pytest.approx(1 - math.exp(-steps * INTERVAL), abs=1e-9)


def test_silence_holds_the_mean_and_forgets_it_after_a_window() -> None:
    listener = judge(smoothing=1.0)
    states(listener, 3.0, 3.0)

    def silent_for(seconds: float) -> Verdict:
        scores = [Score(0.0, -3.0, 600, False)] * round(seconds / INTERVAL)
        return [listener.update(score, SILENT) for score in scores][-1]

    assert silent_for(2.0).state == "silence"
    assert silent_for(1.0).smoothed == 3.0
    assert silent_for(3.0).smoothed == -3.0
    assert states(listener, -3.0) == ["spoof"]


def test_a_partial_window_is_warming_up() -> None:
    assert judge().update(Score(1.0, 9.0, 120, True), FINE).state == "warming-up"
    assert judge().update(Score(1.0, 9.0, 120, True), SILENT).state == "silence"


@pytest.mark.parametrize("flag", ["no-low-band", "no-high-band"])
def test_behind_a_line_that_blinds_the_model_nothing_is_claimed(flag: str) -> None:
    blind = Quality(-20.0, False, (flag,), np.zeros(257))
    assert states(judge(), 9.0, -9.0, quality=blind) == ["unsure", "unsure"]
    assert states(judge(), 9.0, quality=Quality(-20.0, False, ("clipping",), np.zeros(257))) == ["bonafide"]


@given(llr=st.floats(-1e30, 1e30), prior=st.floats(1e-9, 1 - 1e-9))
def test_probabilities_stay_probabilities(llr: float, prior: float) -> None:
    assert 0 <= judge(prior=prior).p_spoof(llr) <= 1


@pytest.mark.parametrize("change", [{"prior": 0.0}, {"prior": 1.0}, {"sure": 0.5}, {"sure": 1.0}, {"smoothing": -1.0}])
def test_settings_that_cannot_be(change: dict[str, float]) -> None:
    with pytest.raises(ShrikeError):
        judge(**change)
