"""The gate, and what a score means."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import verify
from export.options import GateOptions
from export.score_map import FALSE_CLAIMS, fit_score, operating_point
from export.verify import Comparison, compare, read_trials
from runtime.audio.features import PRESETS
from runtime.support.errors import ShrikeError
from tests.listing import listed
from train.evaluate import metrics


def scored(seed: int = 0, apart: float = 2.0, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat([1, 0], count)
    return rng.normal(0, 1, 2 * count) + apart * labels, labels


GATE = GateOptions(bootstrap=10)


def at(change: Comparison, rise: float, accept: bool = False) -> Comparison:
    """The same comparison under another limit, a fraction."""
    return replace(change, gate=replace(change.gate, max_eer_rise=100 * rise, accept_unproven=accept))


def test_a_model_against_itself_passes() -> None:
    scores, labels = scored()
    same = compare(scores, scores, labels, GateOptions(bootstrap=50))
    assert same.accuracy.correlation == pytest.approx(1.0) and same.accuracy.largest_change == 0.0
    assert same.accuracy.eer_float == same.accuracy.eer and same.interval == (0.0, 0.0)
    assert same.faults == []


def test_the_gate_judges_by_the_interval() -> None:
    scores, labels = scored()
    noisy = scores + np.random.default_rng(1).normal(0, 1, len(scores))
    change = compare(scores, noisy, labels, GateOptions(bootstrap=200))
    assert change.rise is not None and change.interval is not None
    low, high = change.interval
    assert change.rise > 0.02 and low <= change.rise <= high
    below, inside, above = low - 0.001, (low + change.rise) / 2, high + 0.001
    assert at(change, below).is_lost and at(change, below, accept=True).faults
    assert at(change, inside).is_unproven and at(change, inside).faults
    accepted, within = at(change, inside, accept=True), at(change, (change.rise + high) / 2)
    assert not accepted.faults and "--accept-unproven" in (accepted.note or "")
    assert not within.faults and within.note  # the estimate is within the limit, the interval is not: a note
    assert not at(change, above).faults and at(change, above).note is None
    assert (
        compare(noisy, scores, labels, GateOptions(bootstrap=50, max_eer_rise=0.0)).faults == []
    )  # a lower EER is no fault


def test_flipped_scores_never_pass() -> None:
    scores, labels = scored()
    assert compare(scores, -scores, labels, GATE).accuracy.eer == pytest.approx(
        1 - metrics.eer(scores[labels == 1], scores[labels == 0]), abs=0.01
    )
    assert compare(scores, -scores, labels, GATE).faults
    assert compare(scores, -scores, None, GATE).faults


def test_without_labels_only_agreement_counts_as_the_card_states() -> None:
    scores, _ = scored()
    agreeing = compare(scores, scores + 0.01, None, GATE)
    assert not agreeing.faults and agreeing.accuracy.eer is None
    record = agreeing.accuracy
    assert not record.measured and "EER was not measured" in record.reason
    assert record.trials == len(scores) and record.correlation == pytest.approx(1.0)
    assert compare(scores, np.zeros_like(scores), None, GATE).faults  # a dead model agrees with nothing


def test_scores_that_are_not_finite_never_ship() -> None:
    scores, labels = scored()
    broken = scores.copy()
    broken[3] = np.nan
    with pytest.raises(ShrikeError):
        compare(scores, broken, labels, GATE)


def test_min_tdcf_where_the_organisers_scores_are_given(corpus_root: Path) -> None:
    asv = next((corpus_root / "scores").glob("*asv*"), None)
    if asv is None:
        pytest.skip("no ASV scores there")
    scores, labels = scored()
    both = compare(scores, scores, labels, GateOptions(asv=asv, bootstrap=10))
    assert both.accuracy.min_tdcf_float == both.accuracy.min_tdcf and 0 < (both.accuracy.min_tdcf or 0) < 1


def test_the_table_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    scores, labels = scored()
    comparison = compare(scores, scores[::-1], labels, GATE)
    verify.show(comparison, comparison.faults)
    captured = capsys.readouterr()
    assert captured.out == "" and "failed" in captured.err


# ---- likelihood ratios -----------------------------------------------------------------------------------------------


def test_gaussian_scores_get_the_ratios_that_are_known() -> None:
    # Two unit normals at 0 and d: the log-likelihood ratio of x is d x - d^2 / 2.
    scores, labels = scored(apart=2.0, count=20_000)
    fitted = fit_score(scores, labels, "dev")[0]
    assert fitted.scale == pytest.approx(2.0, rel=0.05) and fitted.offset == pytest.approx(-2.0, rel=0.05)
    assert fitted.threshold == pytest.approx(1.0, abs=0.03) and fitted.fitted_on == "dev"
    llr = fitted.llr(scores)
    best = metrics.cllr(2 * scores[labels == 1] - 2, 2 * scores[labels == 0] - 2)
    assert metrics.cllr(llr[labels == 1], llr[labels == 0]) <= best + 1e-3


@given(st.floats(0.01, 100.0), st.floats(-100.0, 100.0))
def test_ratios_do_not_depend_on_the_unit_of_the_scores(factor: float, shift: float) -> None:
    scores, labels = scored(count=200)
    moved = factor * scores + shift
    expected = fit_score(scores, labels, "dev")[0].llr(scores)
    assert np.allclose(fit_score(moved, labels, "dev")[0].llr(moved), expected, atol=1e-3)


def test_the_share_of_the_classes_does_not_move_the_ratios() -> None:
    scores, labels = scored(count=5_000)
    often = np.concatenate([scores, np.repeat(scores[labels == 0], 9)])
    unbalanced = fit_score(often, np.concatenate([labels, np.zeros(len(often) - len(labels), int)]), "dev")[0]
    balanced = fit_score(scores, labels, "dev")[0]
    assert unbalanced.scale == pytest.approx(balanced.scale, rel=1e-3)
    assert unbalanced.offset == pytest.approx(balanced.offset, rel=1e-3)


def test_the_ends_of_what_can_be_fitted() -> None:
    labels = np.repeat([1, 0], 50)
    split = fit_score(np.where(labels == 1, 5.0, -5.0) + np.linspace(0, 1, 100), labels, "dev")[0]
    assert np.isfinite([split.scale, split.offset]).all() and split.scale > 0
    for scores, known in ((-scored(count=50)[0], scored(count=50)[1]), (scored()[0], None), (None, None)):
        unfitted, reason = fit_score(scores, known, "dev")
        assert (unfitted.scale, unfitted.offset, unfitted.fitted_on) == (1.0, 0.0, None) and reason


# ---- trials ----------------------------------------------------------------------------------------------------------


def test_the_operating_point_calls_few_real_voices_spoof() -> None:
    llrs = np.random.default_rng(0).normal(1.0, 1.5, 2000)
    point, p_spoof = operating_point(llrs), 1 / (1 + np.exp(llrs))
    assert np.mean(p_spoof >= point) <= FALSE_CLAIMS < np.mean(p_spoof >= point - 0.01)
    assert operating_point(llrs + 10) == 0.7 and operating_point(llrs - 20) == 0.99


def test_dev_verifies_and_its_first_windows_do(corpus_root: Path, tmp_path: Path) -> None:
    trials = read_trials(
        GateOptions(verification_trials=6, verification_windows=1), PRESETS["f0"], corpus_root, tmp_path
    )
    listing = f"{len(listed(corpus_root, 'dev')):,}"
    assert len(trials) == 6 and trials.name == f"dev: dev.txt, 6 of {listing} trials"
    assert trials.labels is not None and set(trials.labels.tolist()) == {0, 1}
    assert [window.shape for window, _ in trials] == [(1, 1, 45, 600)] * 6

    def engine(window: np.ndarray) -> np.ndarray:
        return np.array([[0.0, float(window.mean())]], np.float32)

    assert np.allclose(trials.scores(engine), [window.mean() for window, _ in trials], atol=1e-4)


def test_a_short_list_gives_windows_until_the_gate_can_see_what_it_allows(corpus_root: Path, tmp_path: Path) -> None:
    frontend = PRESETS["f0"]
    gate = GateOptions(verification_trials=40, max_eer_rise=5)
    trials = read_trials(gate, frontend, corpus_root, tmp_path)
    labels = trials.labels
    assert labels is not None and len(trials) == len(labels) == 40 * trials.windows
    listing = f"{len(listed(corpus_root, 'dev')):,}"
    assert trials.name.endswith(f"40 of {listing} trials, {trials.windows} windows of each") and trials.windows > 1
    assert verify.finest(labels) <= 0.05 / verify.FINEST  # four steps within what is allowed,
    assert verify.finest(labels[:: trials.windows]) / (trials.windows - 1) > 0.05 / verify.FINEST  # and no more work
    first = read_trials(replace(gate, max_eer_rise=100), frontend, corpus_root, tmp_path)
    assert first.windows == 1  # a long list, or a generous rise
    windows = [window for window, _ in trials]
    assert all(np.array_equal(a, b) for a, (b, _) in zip(windows[:: trials.windows], first, strict=True))
    assert not np.array_equal(windows[0], windows[1])


def test_the_windows_of_one_clip_count_as_one_trial() -> None:
    scores, labels = scored(count=100)
    before, after = np.repeat(scores, 5), np.repeat(scores[::-1], 5)
    labels_5 = np.repeat(labels, 5)
    one = compare(scores, scores[::-1], labels, GateOptions())
    five = compare(before, after, labels_5, GateOptions(), windows=5)
    assert (five.accuracy.trials, five.windows) == (200, 5)
    assert five.interval == one.interval  # copies of a score are no new evidence
    apart = compare(before, after, labels_5, GateOptions())
    assert apart.interval is not None and one.interval is not None
    assert np.ptp(apart.interval) < 0.7 * np.ptp(one.interval)  # as independent trials they would be


def test_a_protocol_without_keys_has_no_labels(corpus_root: Path, tmp_path: Path) -> None:
    lines = (corpus_root / "protocols" / "dev.txt").read_text().splitlines()
    one_class = tmp_path / "one.txt"
    one_class.write_text("\n".join([line for line in lines if line.endswith(" spoof")][:3]) + "\n")
    with pytest.raises(ShrikeError):
        read_trials(GateOptions(verification_protocol=one_class), PRESETS["f0"], corpus_root, tmp_path)
