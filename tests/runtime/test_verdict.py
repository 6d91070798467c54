"""States that do not flicker, probabilities that follow Bayes, and inputs that cannot be judged."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.framer import Score
from runtime.audio.quality import Quality
from runtime.card.model_card import ScoreMap
from runtime.support.errors import ShrikeError
from runtime.verdict import State, VerdictTracker

MAP = ScoreMap(2.0, 0.5, -0.25, "trials")
RAW = ScoreMap(1.0, 0.0, 0.0, None)
FINE = Quality(-20.0, False, (), np.zeros(257))
TALKING = 4.0, 60.0  # s of voice in the window, and in the stream
NOBODY = 0.1, 60.0
INTERVAL = 0.0975


def judge(**changes: float) -> VerdictTracker:
    return VerdictTracker(RAW, INTERVAL, **{"smoothing": 0.0, **changes})


def states(judge: VerdictTracker, *llrs: float, quality: Quality = FINE) -> list[State]:
    return [judge.update(Score(0.0, llr, 600, False), quality, *TALKING).state for llr in llrs]


def test_the_card_s_map_and_the_prior_make_the_probability() -> None:
    verdict = VerdictTracker(MAP, INTERVAL, prior=0.2, smoothing=0).update(Score(5.0, 0.25, 600, False), FINE, *TALKING)
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


def test_the_operating_point_is_the_card_s_unless_one_is_given() -> None:
    scores = [-math.log(odds) for odds in (8.9, 9.1, 1 / 2.3, 1 / 2.4)]  # P(spoof) just below and above 0.9 and 0.3
    card = VerdictTracker(replace(MAP, scale=1.0, offset=0.0, sure=0.9), INTERVAL, smoothing=0)
    assert states(card, *scores) == ["unsure", "spoof", "unsure", "bonafide"]
    given = VerdictTracker(replace(MAP, scale=1.0, offset=0.0, sure=0.9), INTERVAL, smoothing=0, sure=0.8)
    assert states(given, *scores) == ["spoof", "spoof", "unsure", "unsure"]
    assert (given.spoof, given.bonafide) == (0.8, pytest.approx(0.2))


def test_smoothing_has_its_time_constant() -> None:
    slow = judge(smoothing=1.0)
    states(slow, 0.0)
    steps = round(1.0 / INTERVAL)
    verdicts = [slow.update(Score(0.0, 1.0, 600, False), FINE, *TALKING) for _ in range(steps)]
    assert verdicts[-1].smoothed == pytest.approx(1 - math.exp(-steps * INTERVAL), abs=1e-9)


def test_nothing_is_judged_without_voice_and_the_mean_starts_anew() -> None:
    tracker = judge(smoothing=1.0)
    states(tracker, 3.0, 3.0)
    silent = tracker.update(Score(0.0, math.nan, 600, False), FINE, *NOBODY)
    assert (silent.state, silent.score, silent.llr, silent.smoothed, silent.p_spoof) == ("no-voice", *[None] * 4)
    later = [tracker.update(Score(0.0, -3.0, 600, False), FINE, 4.0, 60.0 + spoken) for spoken in (0.5, 1.5, 3.5)]
    assert [verdict.state for verdict in later] == ["too-short", "warming-up", "spoof"]
    assert later[0].p_spoof is None and later[1].smoothed == later[2].smoothed == -3.0


@pytest.mark.parametrize(("window", "total"), [(0.0, 0.0), (0.2, 0.2), (0.5, 0.5), (0.9, 0.9), (2.0, 2.0), (2.9, 2.9)])
def test_less_than_three_seconds_of_voice_support_no_claim(window: float, total: float) -> None:
    verdict = judge().update(Score(5.0, 9.0, 600, False), FINE, window, total)
    assert verdict.state in ("no-voice", "too-short", "warming-up")
    assert (verdict.p_spoof is None) == (total < 1.0)


def test_less_than_a_window_of_sound_supports_no_claim() -> None:
    assert judge().update(Score(4.0, 9.0, 480, True), FINE, *TALKING).state == "warming-up"


@pytest.mark.parametrize("flag", ["no-low-band", "no-high-band", "quiet", "clipping"])
def test_flags_that_disable_a_claim(flag: str) -> None:
    disabled = Quality(-20.0, False, (flag,), np.zeros(257))
    assert states(judge(), 9.0, -9.0, quality=disabled) == ["unsure", "unsure"]
    assert states(judge(), 9.0, quality=Quality(-20.0, False, ("lost",), np.zeros(257))) == ["bonafide"]


@given(llr=st.floats(-1e30, 1e30), prior=st.floats(1e-9, 1 - 1e-9))
def test_probabilities_stay_probabilities(llr: float, prior: float) -> None:
    assert 0 <= judge(prior=prior).p_spoof(llr) <= 1


@pytest.mark.parametrize("change", [{"prior": 0.0}, {"prior": 1.0}, {"sure": 0.5}, {"sure": 1.0}, {"smoothing": -1.0}])
def test_settings_that_cannot_be(change: dict[str, float]) -> None:
    with pytest.raises(ShrikeError):
        judge(**change)
