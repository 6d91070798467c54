"""Summaries: what a small change may turn is flagged, and nothing else."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.audio.framer import Score
from runtime.audio.quality import Quality
from runtime.card.model_card import ScoreMap
from runtime.sinks import StreamInfo
from runtime.summary import LLR_MARGIN, VOICED_MARGIN, Summary, SummaryBuilder
from runtime.verdict import VerdictTracker

INFO = StreamInfo(
    "call.wav", False, "model", "ONNX Runtime", "int8", True, 2.5, 4.98, 0.5, (0.0, 7000.0), 16_000, 0.0, 0.7, 0.3
)
FINE = Quality(-20.0, False, (), np.zeros(257))


def summed(
    llrs: list[float], voiced: float, prior: float = 0.5, flag: str = "quiet", flagged: tuple[int, ...] = ()
) -> Summary:
    """Summary of windows 2.5 s apart, as in a scan; `flagged` ones have the flag."""
    tracker = VerdictTracker(ScoreMap(1.0, 0.0, 0.0, "trials"), INFO.interval, prior, smoothing=0.0)
    builder = SummaryBuilder(INFO, tracker)
    for number, llr in enumerate(llrs):
        end = INFO.window + number * INFO.interval
        quality = replace(FINE, flags=(flag,)) if number in flagged else FINE
        verdict = tracker.update(Score(end, llr, 600, False), quality, 4.0, 4.0 + number)
        builder.count(verdict, end - INFO.window, False, 0.0, None)
    return builder.summary(INFO.window + len(llrs) * INFO.interval, voiced)


@given(
    llrs=st.lists(st.floats(-3, 3), min_size=1, max_size=8),
    voiced=st.floats(0.0, 8.0),
    prior=st.floats(0.05, 0.95),
    share=st.floats(-1, 1),
)
@settings(max_examples=200, deadline=None)
def test_a_state_that_a_small_change_turns_is_borderline(
    llrs: list[float], voiced: float, prior: float, share: float
) -> None:
    before = summed(llrs, voiced, prior)
    shifted = summed([llr + share * LLR_MARGIN for llr in llrs], voiced, prior)
    longer = summed(llrs, max(0.0, voiced + share * VOICED_MARGIN), prior)
    if "borderline" not in before.flags:
        assert before.state == shifted.state == longer.state


@given(voiced=st.floats(3.2, 100.0), llr=st.floats(1.5, 50.0), sign=st.sampled_from([-1, 1]))
def test_a_clear_state_is_not_borderline(voiced: float, llr: float, sign: int) -> None:
    assert not summed([sign * llr] * 4, voiced).flags
    assert not summed([], 0.0).flags


def test_the_flag_leaves_the_state_and_counts_passages_too() -> None:
    assert (summed([-0.9], 5.0).state, summed([-0.8], 5.0).state) == ("spoof", "unsure")
    assert summed([-0.9], 5.0).flags == summed([-0.8], 5.0).flags == {"borderline": 1.0}
    one_passage = summed([2.0, -0.9, 2.0, 2.0, 2.0], 12.0)  # whose peak is close to the threshold, not the mean
    assert one_passage.flags == {"borderline": 1.0} and "borderline" in one_passage.line()
    assert summed([5.0], 2.95).state == "too-short" and summed([5.0], 2.95).flags == {"borderline": 1.0}


def test_flags_disable_a_claim_and_are_shown() -> None:
    for flag, state in (("quiet", "spoof"), ("no-high-band", "unsure")):  # in half of the windows
        half = summed([-5.0, -5.0], 9.0, flag=flag, flagged=(1,))
        assert half.state == state and half.flags == {flag: 0.5} and half.line().endswith(f", {flag}")
        assert summed([5.0, 5.0, 5.0], 9.0, flag=flag, flagged=(0, 1)).state == "unsure"
        assert summed([5.0, 5.0, 5.0], 9.0, flag=flag, flagged=(0,)).state == "bonafide"
