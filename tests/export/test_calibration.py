"""The choice of calibration trials, and the range estimators."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.int8.calibration import CalibrationClips, Histogram, check_disjoint, choose, describe, silence
from export.options import GateOptions, Int8Options, ModelOptions
from export.pipeline import prepare
from runtime.audio.features import PRESETS
from runtime.support.errors import ShrikeError
from train.data.cache import build_cache
from train.data.corpus import Partition, Trial, open_corpus, select


def partition(bonafide: int, attacks: dict[str, int], unlabelled: int = 0) -> Partition:
    trials = [Trial(f"B{n:04}", "s", "-", True, None) for n in range(bonafide)]
    trials += [Trial(f"{a}{n:04}", "s", a, False, None) for a, count in attacks.items() for n in range(count)]
    trials += [Trial(f"U{n:04}", "s", "-", None, None) for n in range(unlabelled)]
    return Partition("train", Path("corpus"), Path("train.txt"), tuple(trials), ())


def test_half_of_each_class_and_every_attack_alike() -> None:
    chosen = choose(partition(300, {"A01": 400, "A02": 400, "A03": 5}), 200)
    counts = Counter(trial.attack for trial in chosen)
    assert counts == {"-": 100, "A01": counts["A01"], "A02": counts["A02"], "A03": 5}
    assert abs(counts["A01"] - counts["A02"]) <= 1


def test_what_one_class_lacks_the_other_fills() -> None:
    chosen = choose(partition(20, {"A01": 400}), 200)
    assert Counter(trial.attack for trial in chosen) == {"-": 20, "A01": 180}
    assert len(choose(partition(20, {"A01": 30}), 200)) == 50


def test_the_choice_is_a_seed_s(capsys: pytest.CaptureFixture[str]) -> None:
    trials = partition(300, {"A01": 300})
    assert choose(trials, 100) == choose(trials, 100) != choose(trials, 100, seed=1)
    assert not capsys.readouterr().err
    choose(trials, 99)
    assert "99" in capsys.readouterr().err


def test_only_labelled_trials_of_a_corpus_calibrate(tmp_path: Path, model_pt: Path) -> None:
    for wrong in (partition(10, {}), partition(0, {"A01": 10}), partition(10, {"A01": 10}, unlabelled=1)):
        with pytest.raises(ShrikeError):
            choose(wrong, 10)

    def refused(calibration: Path | None) -> str:
        with pytest.raises(ShrikeError) as error:
            prepare(
                ModelOptions(model_pt, cache=tmp_path / "cache"),
                Int8Options(calibration),
                GateOptions(),
                "int8",
                "uint8",
            )
        return str(error.value)

    assert "needs --calibration CORPUS" in refused(None)
    np.save(tmp_path / "noise.npy", np.zeros(3))
    assert "expected the folder of a corpus" in refused(tmp_path / "noise.npy")
    (tmp_path / "sounds").mkdir()
    assert "no train protocol below" in refused(tmp_path / "sounds")


def test_the_gate_must_not_see_what_calibrated() -> None:
    trials = partition(5, {"A01": 5}).trials
    check_disjoint(trials[:5], trials[5:])
    with pytest.raises(ShrikeError):
        check_disjoint(trials[:5], trials[4:])


def test_real_crops_and_the_cards_entry(corpus_root: Path, tmp_path: Path) -> None:
    train = select(open_corpus(corpus_root, "train"), "open=1")
    chosen = choose(train, 12)
    crops = CalibrationClips(build_cache(PRESETS["f0"], chosen, tmp_path, processes=1))
    windows = list(crops)
    assert len(windows) == 12 and all(window.shape == (1, 1, 45, 600) for window in windows)
    assert all(np.array_equal(a, b) for a, b in zip(windows, crops, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(windows, CalibrationClips(crops.cache, seed=1), strict=True))
    record = describe(crops, train, "entropy")
    assert record.classes == {"bonafide": 6, "spoof": 6} and sum(record.attacks.values()) == 6
    assert record.partition == "train where open=1" and record.corpus == train.identity()
    assert 0.0 < record.silence < 0.9
    assert describe(CalibrationClips(crops.cache, seed=1), train, "entropy").trials_sha256 == record.trials_sha256


def test_silence_is_the_share_of_frames_far_below_the_loudest() -> None:
    window = np.full((1, 1, 45, 600), -20.0, np.float32)
    window[..., :150] = 0.0  # 20 nat, 87 dB, above
    assert silence(window) == 0.75
    assert silence(np.zeros((1, 1, 45, 600), np.float32)) == 0.0


# ---- ranges ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.015625, 1000.0, width=32), min_size=1, max_size=8), st.integers(0, 2**16))
def test_the_order_of_windows_hardly_moves_a_histogram(peaks: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.uniform(-peak, peak, 50).astype(np.float32) for peak in peaks]
    forward, backward = Histogram(), Histogram()
    for part in parts:
        forward.add(part)
    for part in reversed(parts):
        backward.add(part)
    assert forward.largest == backward.largest == max(float(np.abs(part).max()) for part in parts)
    assert forward.counts.sum() == backward.counts.sum() == 50 * len(parts)
    for share in (50.0, 99.0, 100.0):
        bins = max(forward.reach, backward.reach) / 1024
        assert abs(forward.percentile(share) - backward.percentile(share)) <= 2 * bins


def test_a_percentile_is_numpys_within_a_bin() -> None:
    values = np.random.default_rng(0).normal(0, 1, 100_000).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)
    for share in (50.0, 99.0, 99.9):
        assert histogram.percentile(share) == pytest.approx(np.percentile(np.abs(values), share), abs=0.01)
    assert histogram.percentile(100.0) == histogram.largest


def test_entropy_drops_a_lone_peak_but_no_body() -> None:
    rng = np.random.default_rng(0)
    even, peaked = Histogram(), Histogram()
    even.add(rng.uniform(-1, 1, 200_000).astype(np.float32))
    peaked.add(np.append(rng.normal(0, 1, 200_000), 100.0).astype(np.float32))
    assert even.entropy() > 0.9
    assert 3.0 < peaked.entropy() < 30.0


def test_what_is_always_zero_or_not_finite() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    assert histogram.entropy() == histogram.largest == 0.0
    with pytest.raises(ShrikeError):
        histogram.add(np.array([np.nan], np.float32))
