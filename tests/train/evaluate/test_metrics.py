"""Error rates: the organisers' own numbers on published systems, cases computed by hand, and what must hold always.

python -m pytest tests/train/evaluate/test_metrics.py
"""

import csv
import gzip
import json
import math
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.support.errors import ShrikeError
from train.evaluate import bootstrap, metrics, scorefile
from train.evaluate.summary import show, summarise

REPOSITORY = Path(__file__).resolve().parents[3]
PUBLISHED = ("rawgat-st-mul", "resnet18-lfcc-softmax", "resnet18-lfcc-ocsoftmax")
ASV_FILE = "ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz"

# Rising scores: s s b s b s b b, so that the rates meet at 1.5 with one of four wrong on either side.
BONAFIDE, SPOOF = [1.0, 2.0, 3.0, 4.0], [0.0, 0.5, 1.5, 2.5]
ASV = metrics.AsvErrors(miss=0.1, false_alarm=0.1, spoof_false_alarm=0.5)

# Few distinct scores, so that hypothesis meets many ties; small enough for exp().
scores = st.lists(st.integers(-300, 300).map(float), min_size=1, max_size=40)


def noise(trials: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=trials) + shift


# ---------------------------------------------------------------- agreement with the organisers


@pytest.fixture(scope="module")
def published(corpus_root: Path) -> Path:
    folder = corpus_root / "scores"
    if not (folder / "EXPECTED.tsv").is_file():
        pytest.skip(f"needs the published scores in {folder}")
    return folder


@pytest.mark.parametrize("system", PUBLISHED)
def test_published_systems_score_as_in_the_organisers_code(published: Path, system: str) -> None:
    with open(published / "EXPECTED.tsv", encoding="utf-8") as file:
        expected = next(row for row in csv.DictReader(file, delimiter="\t") if row.pop("system") == system)
    table = scorefile.read_scores(published / f"{system}.txt.gz")
    if expected.pop("sign") == "-1":
        table = table.flipped()
    summary = summarise(table, scorefile.read_asv_scores(published / ASV_FILE), bootstrap=0)
    measured = {
        "trials": summary.trials,
        "bonafide": summary.bonafide,
        "eer": 100 * summary.eer,
        "min_tdcf_2019": summary.min_tdcf_2019,
        "min_tdcf_2021": summary.min_tdcf_2021,
        "min_dcf": summary.min_dcf,
        "act_dcf": summary.actual_dcf,
        "cllr": summary.cllr,
        **{f"eer_{attack.attack}": 100 * attack.eer for attack in summary.attacks},
    }
    assert measured == pytest.approx({name: float(value) for name, value in expected.items()}, rel=0, abs=1e-6)


def test_single_functions_agree_with_the_summary(published: Path) -> None:
    table, asv = (
        scorefile.read_scores(published / "rawgat-st-mul.txt.gz"),
        scorefile.read_asv_scores(published / ASV_FILE),
    )
    summary = summarise(table, asv, bootstrap=100, seed=3)
    trials = table.bonafide, table.spoof
    assert (summary.eer, summary.eer_threshold) == metrics.eer_threshold(*trials)
    assert summary.eer_interval == bootstrap.bootstrap_eer(*trials, resamples=100, seed=3)
    assert summary.min_tdcf_2019 == metrics.min_tdcf_2019(*trials, asv.errors())
    assert summary.min_tdcf_2021 == metrics.min_tdcf_2021(*trials, asv.errors())
    assert summary.min_dcf == metrics.min_dcf(*trials)
    hardest = max(summary.attacks, key=lambda attack: attack.eer)
    assert hardest.attack == "A18"
    of_hardest = table.bonafide, table.score[table.attack == "A18"]
    assert hardest.min_tdcf_2019 == metrics.min_tdcf_2019(*of_hardest, asv.errors("A18"))


# ---------------------------------------------------------------- computed by hand


def test_det_curve_walks_from_believing_everybody_to_refusing_everybody() -> None:
    curve = metrics.det_curve(BONAFIDE, SPOOF)
    assert curve.miss.tolist() == [0, 0, 0, 0.25, 0.25, 0.5, 0.5, 0.75, 1]
    assert curve.false_alarm.tolist() == [1, 0.75, 0.5, 0.5, 0.25, 0.25, 0, 0, 0]
    assert curve.thresholds.tolist() == [-0.001, 0, 0.5, 1, 1.5, 2, 2.5, 3, 4]


def test_error_rates_by_hand() -> None:
    assert metrics.eer_threshold(BONAFIDE, SPOOF) == (0.25, 1.5)
    # Best cut at 0.5: no miss and half of the spoofs, 0.5 · 10 · 0.05 against 10 · 0.05 for believing everybody.
    assert metrics.min_dcf(BONAFIDE, SPOOF) == pytest.approx(0.5)
    # The Bayes threshold is log(0.5 / 0.95) = -0.64, below every score: everybody is believed.
    assert metrics.actual_dcf(BONAFIDE, SPOOF) == pytest.approx(1.0)


def test_actual_dcf_decides_at_the_bayes_threshold() -> None:
    below, above = math.log(0.5 / 0.95) - 1e-9, math.log(0.5 / 0.95) + 1e-9
    assert metrics.actual_dcf([above], [below]) == 0
    assert metrics.actual_dcf([below], [above]) == pytest.approx(1.9 + 1)
    assert metrics.actual_dcf([metrics.BAYES_THRESHOLD], [below]) == 0  # whoever stands on it is believed


def test_cllr_by_hand() -> None:
    assert metrics.cllr([0.0], [0.0, 0.0]) == pytest.approx(1)
    assert metrics.cllr([math.log(3)], [-math.log(3)]) == pytest.approx(math.log2(4 / 3))  # sure by 3 to 1, and right
    assert metrics.cllr([-math.log(3)], [math.log(3)]) == pytest.approx(2)  # and wrong
    assert metrics.cllr([5000.0], [-5000.0]) == 0
    assert metrics.cllr([-5000.0], [-5000.0]) == pytest.approx(2500 / math.log(2))  # large, but a number


def test_tandem_costs_by_hand() -> None:
    own = 0.9405 * 0.1 + 0.0095 * 10 * 0.1  # what the speaker verification errs by itself
    everybody = 0.05 * 10 * 0.5  # what believing every spoof costs: less than missing all bona fide
    assert metrics.min_tdcf_2019(BONAFIDE, SPOOF, ASV) == pytest.approx(0.5)
    assert metrics.min_tdcf_2021(BONAFIDE, SPOOF, ASV) == pytest.approx((own + everybody / 2) / (own + everybody))
    assert metrics.min_tdcf_2019([1, 2], [0, 0.5], ASV) == 0
    assert metrics.min_tdcf_2021([1, 2], [0, 0.5], ASV) == pytest.approx(own / (own + everybody))


def test_asv_errors_by_hand() -> None:
    # The rates are closest after the target at 2; at that threshold itself the target is still accepted.
    errors = metrics.asv_errors(target=[2, 3, 4, 5], nontarget=[0, 1, 1.5, 2.5], spoof=[1, 2, 3, 3, 3])
    assert errors == metrics.AsvErrors(miss=0, false_alarm=0.25, spoof_false_alarm=0.8, threshold=2)


def test_a_tie_counts_against_the_system() -> None:
    assert metrics.eer([1, 1], [1, 1, 1]) == 1
    assert metrics.eer([1, 2], [0, 1]) == 0.5
    assert metrics.eer([1 + 1e-9, 2], [0, 1]) == 0


# ---------------------------------------------------------------- what must hold always


def test_perfect_separation_and_its_opposite() -> None:
    assert metrics.eer([3, 4, 5], [0, 1]) == metrics.min_dcf([3, 4, 5], [0, 1]) == 0
    assert metrics.eer([0, 1], [3, 4, 5]) == 1
    assert metrics.min_dcf([0, 1], [3, 4, 5]) == pytest.approx(1)


def test_noise_gives_half() -> None:
    bonafide, spoof = noise(20_000, seed=1), noise(40_000, seed=2)
    assert metrics.eer(bonafide, spoof) == pytest.approx(0.5, abs=0.01)
    assert metrics.min_dcf(bonafide, spoof) == pytest.approx(1, abs=0.01)


def test_two_bells_give_the_textbook_rate() -> None:
    eer = metrics.eer(noise(50_000, seed=1, shift=2), noise(50_000, seed=2))
    assert eer == pytest.approx(math.erfc(1 / math.sqrt(2)) / 2, abs=0.005)  # half the distance is one sigma


@given(scores, scores)
def test_rates_stay_in_their_bounds(bonafide: list[float], spoof: list[float]) -> None:
    assert 0 <= metrics.eer(bonafide, spoof) <= 1
    assert 0 <= metrics.min_dcf(bonafide, spoof) <= 1 + 1e-12
    assert metrics.min_dcf(bonafide, spoof) <= metrics.actual_dcf(bonafide, spoof) + 1e-12
    assert 0 <= metrics.min_tdcf_2019(bonafide, spoof, ASV) <= metrics.min_tdcf_2021(bonafide, spoof, ASV) <= 1 + 1e-12


@given(scores, scores)
def test_det_curve_only_climbs_one_way(bonafide: list[float], spoof: list[float]) -> None:
    curve = metrics.det_curve(bonafide, spoof)
    assert (curve.miss[0], curve.false_alarm[0], curve.miss[-1], curve.false_alarm[-1]) == (0, 1, 1, 0)
    assert (np.diff(curve.miss) >= 0).all() and (np.diff(curve.false_alarm) <= 0).all()
    assert (np.diff(curve.thresholds) >= 0).all() and len(curve.thresholds) == len(bonafide) + len(spoof) + 1


@given(scores, scores, st.randoms(use_true_random=False))
def test_order_of_trials_does_not_matter(bonafide: list[float], spoof: list[float], dice: Random) -> None:
    shuffled = dice.sample(bonafide, len(bonafide)), dice.sample(spoof, len(spoof))
    assert metrics.eer_threshold(*shuffled) == metrics.eer_threshold(bonafide, spoof)
    assert metrics.min_dcf(*shuffled) == metrics.min_dcf(bonafide, spoof)


@pytest.mark.parametrize("transform", [lambda x: 3 * x - 7, lambda x: x**3, np.exp], ids=["affine", "cube", "exp"])
@given(bonafide=scores, spoof=scores)
def test_only_the_order_of_scores_matters(
    transform: Callable[[np.ndarray], np.ndarray], bonafide: list[float], spoof: list[float]
) -> None:
    moved = transform(np.array(bonafide)), transform(np.array(spoof))
    assert metrics.eer(*moved) == metrics.eer(bonafide, spoof)
    assert metrics.min_dcf(*moved) == metrics.min_dcf(bonafide, spoof)
    assert bootstrap.bootstrap_eer(*moved, resamples=20) == bootstrap.bootstrap_eer(bonafide, spoof, resamples=20)


@given(st.lists(st.integers(-(10**6), 10**6).map(float), min_size=2, max_size=80, unique=True), st.data())
def test_flipped_scores_give_the_complement(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    bonafide, spoof = np.array(values[:cut]), np.array(values[cut:])
    step = 1 / min(
        bonafide.size, spoof.size
    )  # two neighbouring points can be equally close; each direction takes its first
    assert metrics.eer(-bonafide, -spoof) == pytest.approx(1 - metrics.eer(bonafide, spoof), abs=step / 2 + 1e-12)


@given(st.lists(st.integers(-(10**6), 10**6).map(float), min_size=2, max_size=80, unique=True), st.data())
def test_the_threshold_yields_the_rate(values: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(values) - 1))
    bonafide, spoof = np.array(values[:cut]), np.array(values[cut:])
    eer, threshold = metrics.eer_threshold(bonafide, spoof)
    assert eer == pytest.approx((np.mean(bonafide <= threshold) + np.mean(spoof > threshold)) / 2)


# ---------------------------------------------------------------- bootstrap


def test_interval_is_seeded() -> None:
    trials = noise(200, seed=1, shift=1), noise(300, seed=2)
    assert bootstrap.bootstrap_eer(*trials, seed=5) == bootstrap.bootstrap_eer(*trials, seed=5)
    assert bootstrap.bootstrap_eer(*trials, seed=5) != bootstrap.bootstrap_eer(*trials, seed=6)


def test_interval_is_that_of_resampling_with_replacement() -> None:
    bonafide, spoof = noise(80, seed=1, shift=1).round(1), noise(130, seed=2).round(1)
    rng = np.random.default_rng(3)
    eers = [metrics.eer(rng.choice(bonafide, 80), rng.choice(spoof, 130)) for _ in range(4000)]
    low, high = bootstrap.bootstrap_eer(bonafide, spoof, resamples=4000)
    assert (low, high) == pytest.approx(np.percentile(eers, [2.5, 97.5]), abs=0.008)


# Small enough to list all 27 · 4 resamples. Most cross within copies of a spoofed trial here, of a bona fide one there.
@pytest.mark.parametrize("bonafide, spoof", [([2.0, 4.0, 5.0], [1.0, 3.0]), ([0.0, 2.0], [1.0, 4.0, 5.0])])
def test_interval_is_exact_where_every_resample_can_be_listed(bonafide: list[float], spoof: list[float]) -> None:
    resamples = product(product(bonafide, repeat=len(bonafide)), product(spoof, repeat=len(spoof)))
    exact = np.percentile([metrics.eer(*resample) for resample in resamples], [2.5, 97.5])
    assert bootstrap.bootstrap_eer(bonafide, spoof, resamples=20_000) == pytest.approx(exact)
    # Against a B that is never wrong A's own resamples show: another algorithm, the same interval.
    keys = np.arange(5) < len(bonafide)
    paired = bootstrap.paired_bootstrap_eer_difference([*bonafide, *spoof], keys, keys, resamples=5000)
    assert paired[1:] == pytest.approx(exact)


def test_interval_covers_the_truth_as_often_as_it_promises() -> None:
    truth, covered = math.erfc(0.5 / math.sqrt(2)) / 2, 0  # bells one sigma apart: 30.85 %
    for seed in range(300):
        low, high = bootstrap.bootstrap_eer(noise(100, 2 * seed, shift=1), noise(150, 2 * seed + 1), resamples=400)
        covered += low <= truth <= high
    assert 0.91 <= covered / 300 <= 0.985


def test_interval_narrows_with_trials_and_holds_the_rate() -> None:
    widths = []
    for trials in (100, 10_000):
        bonafide, spoof = noise(trials, seed=1, shift=2), noise(trials, seed=2)
        low, high = bootstrap.bootstrap_eer(bonafide, spoof)
        assert low < metrics.eer(bonafide, spoof) < high
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(10, rel=0.5)  # the square root of a hundred times more


def test_nothing_to_resample_leaves_no_doubt() -> None:
    assert bootstrap.bootstrap_eer([2, 3], [0, 1]) == (0, 0)
    assert bootstrap.bootstrap_eer([0], [1]) == (1, 1)


def test_a_system_does_not_differ_from_itself() -> None:
    scores, keys = noise(500, seed=1), np.arange(500) < 200
    assert bootstrap.paired_bootstrap_eer_difference(scores, scores, keys, resamples=50) == (0, 0, 0)
    assert bootstrap.paired_bootstrap_eer_difference(scores, np.exp(scores), keys, resamples=50) == (0, 0, 0)


def test_difference_to_a_perfect_system_is_the_own_interval() -> None:
    keys = np.random.default_rng(7).permutation(1000) < 400
    scores = noise(1000, seed=1) + keys
    difference, *interval = bootstrap.paired_bootstrap_eer_difference(scores, keys + 1.0, keys, resamples=2000)
    assert difference == metrics.eer(scores[keys], scores[~keys])
    assert interval == pytest.approx(bootstrap.bootstrap_eer(scores[keys], scores[~keys], resamples=2000), abs=0.005)


def test_pairing_shows_a_difference_that_the_single_intervals_hide() -> None:
    keys = np.arange(2000) < 1000
    good = noise(2000, seed=1) + 2.0 * keys
    worse = good + 0.3 * noise(2000, seed=2)
    difference, low, high = bootstrap.paired_bootstrap_eer_difference(worse, good, keys)
    assert 0 < low < difference < high
    single = [bootstrap.bootstrap_eer(scores[keys], scores[~keys]) for scores in (worse, good)]
    assert single[0][0] < single[1][1]  # taken one by one, they overlap
    back, low_back, high_back = bootstrap.paired_bootstrap_eer_difference(good, worse, keys)
    assert (back, low_back, high_back) == pytest.approx((-difference, -high, -low))


# ---------------------------------------------------------------- score files


def small_table() -> scorefile.ScoreTable:
    return scorefile.ScoreTable(
        utterance=np.array([f"T_{index}" for index in range(8)]),
        attack=np.array(["-"] * 4 + ["A01", "A01", "A02", "A02"]),
        is_bonafide=np.arange(8) < 4,
        score=np.array(BONAFIDE + SPOOF) / 3,
    )


@pytest.mark.parametrize("name", ["scores.txt", "scores.txt.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str) -> None:
    table = small_table()
    scorefile.write_scores(tmp_path / name, table)
    again = scorefile.read_scores(tmp_path / name)
    for column in ("utterance", "attack", "is_bonafide", "score"):
        assert getattr(again, column).tolist() == getattr(table, column).tolist()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_columns_may_be_parted_by_any_space(tmp_path: Path) -> None:
    (tmp_path / "scores.txt").write_text("\tA  -\tbonafide 1e-3 \r\n\nB A01   spoof -2\n")
    table = scorefile.read_scores(tmp_path / "scores.txt")
    assert (table.utterance.tolist(), table.score.tolist()) == (["A", "B"], [0.001, -2])


@pytest.mark.parametrize(
    "line",
    ["B A01 spoof", "B A01 spoof 1 2", "B A01 fake 1", "B A01 spoof one", "B A01 spoof nan", "B A01 spoof -inf"],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "scores.txt"
    path.write_text(f"A - bonafide 1\n{line}\n")
    with pytest.raises(ShrikeError, match=r"scores\.txt:2: .*UTTERANCE ATTACK KEY SCORE"):
        scorefile.read_scores(path)


def test_an_utterance_scored_twice_is_named(tmp_path: Path) -> None:
    (tmp_path / "scores.txt").write_text("A - bonafide 1\nB - bonafide 1\nB A01 spoof 0\n")
    with pytest.raises(ShrikeError, match="B"):
        scorefile.read_scores(tmp_path / "scores.txt")


DAMAGED = gzip.compress(b"A - bonafide 1\n" * 99, mtime=0)[:-9]  # a test's name must not hold the time


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"\xff\xfe\x00", DAMAGED])
@pytest.mark.parametrize("name", ["scores.txt", "scores.txt.gz"])
def test_a_file_that_is_no_score_file_is_named(tmp_path: Path, content: bytes | None, name: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ShrikeError, match=r"scores\.txt"):
        scorefile.read_scores(tmp_path / name)


def test_asv_scores_come_apart_by_key_and_attack(tmp_path: Path) -> None:
    lines = ["bonafide target 3", "bonafide target 4", "bonafide nontarget 1", "A01 spoof 5", "A02 spoof 0"]
    (tmp_path / "asv.txt").write_text("\n".join(lines))
    asv = scorefile.read_asv_scores(tmp_path / "asv.txt")
    assert (asv.target.tolist(), asv.nontarget.tolist(), asv.spoof.tolist()) == ([3, 4], [1], [5, 0])
    assert [asv.errors(attack).spoof_false_alarm for attack in (None, "A01", "A02")] == [0.5, 1, 0]


@pytest.mark.parametrize("name", ["", "two words", "new\nline"])
def test_names_that_would_break_the_columns_are_refused(tmp_path: Path, name: str) -> None:
    table = scorefile.ScoreTable(np.array([name]), np.array(["-"]), np.array([True]), np.array([1.0]))
    with pytest.raises(ShrikeError):
        scorefile.write_scores(tmp_path / "scores.txt", table)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what cannot be measured


@pytest.mark.parametrize("bonafide, spoof", [([], [1.0]), ([1.0], []), ([math.nan], [1.0]), ([1.0], [math.inf])])
@pytest.mark.parametrize("measure", ["eer", "min_dcf", "actual_dcf", "cllr", "det_curve", "bootstrap_eer"])
def test_degenerate_scores_are_refused(measure: str, bonafide: list[float], spoof: list[float]) -> None:
    with pytest.raises(ShrikeError):
        getattr(bootstrap if measure == "bootstrap_eer" else metrics, measure)(bonafide, spoof)


def test_one_class_alone_is_refused() -> None:
    table = small_table()
    for keys in (np.ones(8, dtype=bool), np.zeros(8, dtype=bool)):
        with pytest.raises(ShrikeError):
            summarise(scorefile.ScoreTable(table.utterance, table.attack, keys, table.score))
        with pytest.raises(ShrikeError):
            bootstrap.paired_bootstrap_eer_difference(table.score, table.score, keys)


def test_columns_of_different_lengths_are_refused() -> None:
    table = small_table()
    with pytest.raises(ShrikeError):
        scorefile.ScoreTable(table.utterance, table.attack, table.is_bonafide, table.score[:-1])
    with pytest.raises(ShrikeError):
        bootstrap.paired_bootstrap_eer_difference(table.score, table.score[:-1], table.is_bonafide)


@pytest.mark.parametrize("resamples, seed", [(0, 0), (-1, 0), (10, -1)])
def test_impossible_resampling_is_refused(resamples: int, seed: int) -> None:
    with pytest.raises(ShrikeError):
        bootstrap.bootstrap_eer(BONAFIDE, SPOOF, resamples, seed)


@pytest.mark.parametrize("broken", [(0.1, 0.1, 0.0), (1.0, 0.1, 0.5)])
def test_a_useless_speaker_verification_has_no_tdcf(broken: tuple[float, float, float]) -> None:
    with pytest.raises(ShrikeError):
        metrics.min_tdcf_2019(BONAFIDE, SPOOF, metrics.AsvErrors(*broken))


def test_an_attack_that_the_verification_never_accepts_has_no_tdcf() -> None:
    asv = metrics.AsvScores(np.array([3.0, 4.0]), np.array([1.0]), np.array([5.0, 0.0]), np.array(["A01", "A02"]))
    summary = summarise(small_table(), asv, bootstrap=0)
    assert summary.min_tdcf_2021 is not None
    assert [attack.min_tdcf_2021 is None for attack in summary.attacks] == [False, True]


# ---------------------------------------------------------------- the command


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "train.score", *map(str, arguments)]
    return subprocess.run(line, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def score_file(tmp_path: Path) -> Path:
    scorefile.write_scores(tmp_path / "scores.txt", small_table())
    return tmp_path / "scores.txt"


def test_command_prints_one_json_object(score_file: Path) -> None:
    done = command(score_file, "--json", "--bootstrap", "50")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["eer"], summary["trials"], summary["min_tdcf_2019"]) == (0.25, 8, None)
    assert [(attack["attack"], attack["trials"]) for attack in summary["attacks"]] == [("A01", 2), ("A02", 2)]


def test_command_prints_a_table_and_suggests_to_flip(score_file: Path) -> None:
    done = command(score_file, "--flip", "--bootstrap", "0")
    assert done.returncode == 0, done.stderr
    assert "75.0000" in done.stdout and "A02" in done.stdout
    assert "--flip" in done.stderr


def test_command_reports_what_a_user_can_mend_in_one_line(tmp_path: Path) -> None:
    done = command(tmp_path / "missing.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and "missing.txt" in done.stderr and done.stderr.count("\n") == 1


def test_long_names_of_attacks_stay_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{'long-name-' * 12}{number}" for number in (1, 2)]
    table = scorefile.ScoreTable(
        np.array(["a", "b", "c", "d"]),
        np.array([*names, "-", "-"]),
        np.array([False, False, True, True]),
        np.arange(4.0),
    )
    show(summarise(table, bootstrap=0))
    found = capsys.readouterr().out
    assert all(name in found for name in names)


def test_min_cllr_is_that_of_the_best_rising_map() -> None:
    """It is 0 for separable scores, 1 for equal ones, unchanged by rising maps, and below that of any affine map."""
    rng = np.random.default_rng(2)
    bonafide, spoof = rng.normal(1, 1, 200), rng.normal(-1, 1, 300)
    least = metrics.min_cllr(bonafide, spoof)
    assert 0 < least <= metrics.cllr(2 * bonafide, 2 * spoof) < least + 0.05  # 2x is the ratio of these densities
    assert metrics.min_cllr(np.exp(bonafide), np.exp(spoof)) == pytest.approx(least)
    assert metrics.min_cllr([2, 3], [0, 1]) == 0 and metrics.min_cllr([1, 1], [1, 1, 1]) == pytest.approx(1)


def test_weighted_eers_are_those_of_repeated_trials() -> None:
    rng = np.random.default_rng(3)
    keys, drawn = rng.random(40) < 0.5, rng.integers(0, 4, (20, 40))
    scores = np.arange(40.0)
    for row, found in zip(drawn, bootstrap.weighted_eers(keys, drawn), strict=True):
        repeated, labels = np.repeat(scores, row), np.repeat(keys, row)
        one = np.lexsort((np.arange(len(repeated)), repeated))
        assert found == metrics.equal_error(metrics.curve_of(repeated[one], labels[one]))[0]
