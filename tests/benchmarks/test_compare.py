"""Comparison: chance is not called a change, a real one is, and what cannot be compared is said."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare import compare, differences_in_front, only_on_one_side
from benchmarks.noise import difference_of, paired_ratio, ratio_of
from benchmarks.report import Column, Measured, Report, Table, new_report, report_folder, write_report
from runtime.support.errors import ShrikeError
from tests.benchmarks.made_report import made_report
from train.evaluate.metrics import eer
from train.evaluate.scorefile import ScoreTable, write_scores

NOWHERE = Path("nowhere")
ROUNDS = 20


def noisy(rng: np.random.Generator, milliseconds: float, noise: float = 0.02, rounds: int = ROUNDS) -> Measured:
    values = milliseconds * np.exp(noise * rng.standard_normal(rounds))
    return Measured(float(np.median(values)), rounds=tuple(map(float, values)))


def run_of(rng: np.random.Generator, slower: float = 1.0, models: int = 10) -> Report:
    """As a latency report: the first model's time by a factor, the others as ever."""
    rows = [
        {"model": f"net{n}", "form": "u8", "median": noisy(rng, (5 + n) * (slower if n == 0 else 1.0))}
        for n in range(models)
    ]
    return made_report(rows)


def verdicts(a: Report, b: Report, tolerance: float = 3.0) -> list[str]:
    return [change.verdict for change in compare(a, b, tolerance, NOWHERE, NOWHERE)]


@pytest.mark.parametrize("tolerance", [0.0, 3.0])
def test_two_runs_of_the_same_are_not_called_a_change(tolerance: float) -> None:
    rng = np.random.default_rng(0)
    alarms = sum(set(verdicts(run_of(rng), run_of(rng), tolerance)) != {"same"} for _ in range(200))
    assert alarms <= (20 if tolerance == 0 else 0)  # 5 % of 200 are expected without a tolerance; 20 is 3 sigma above


def test_a_run_that_drifts_is_not_called_a_change_either() -> None:
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(200):
        walks = []
        for _ in range(2):
            steps = 0.02 * rng.standard_normal(ROUNDS)
            walk = np.zeros(ROUNDS)
            for turn in range(1, ROUNDS):  # each round keeps half of what disturbed the one before
                walk[turn] = 0.5 * walk[turn - 1] + steps[turn]
            walks.append(tuple(map(float, 10 * np.exp(walk))))
        low, _, high = ratio_of(*walks)
        alarms += not low <= 1 <= high
    assert alarms <= 20  # 10 are expected; without widening() there are 42


@pytest.mark.parametrize(("slower", "verdict"), [(1.10, "worse"), (0.90, "better")])
def test_ten_percent_are_found_in_two_percent_of_noise(slower: float, verdict: str) -> None:
    rng = np.random.default_rng(2)
    found = [verdicts(run_of(rng), run_of(rng, slower)) for _ in range(50)]
    assert sum(row[0] == verdict for row in found) >= 49
    assert sum(set(row[1:]) == {"same"} for row in found) >= 48


def test_a_change_within_the_tolerance_is_none_however_sure() -> None:
    rng = np.random.default_rng(3)
    a = made_report([{"model": "m", "form": "u8", "median": noisy(rng, 10.0, 0.001)}])
    b = made_report([{"model": "m", "form": "u8", "median": noisy(rng, 10.2, 0.001)}])
    assert verdicts(a, b, tolerance=3.0) == ["same"] and verdicts(a, b, tolerance=1.0) == ["worse"]


def test_higher_is_better_where_the_column_says_so() -> None:
    columns = [Column("model", key=True), Column("speed", "1/s", "higher")]
    rng = np.random.default_rng(4)

    def report(speed: float) -> Report:
        rows = [{"model": "m", "speed": noisy(rng, speed)}]
        return new_report("latency", "", {}, {}, [Table.of("steps", "", "", columns, rows)])

    assert verdicts(report(100.0), report(80.0)) == ["worse"] and verdicts(report(80.0), report(100.0)) == ["better"]


def test_a_number_without_noise_is_told_and_not_judged() -> None:
    rows = [{"model": "m", "form": "u8", "median": 5.0, "speed": 3}]
    changed = [{"model": "m", "form": "u8", "median": 50.0, "speed": 3}]
    assert verdicts(made_report(rows), made_report(changed)) == ["noise unknown", "same"]
    slightly = [{"model": "m", "form": "u8", "median": 5.1, "speed": 3}]
    assert verdicts(made_report(rows), made_report(slightly)) == ["same", "same"]  # within the tolerance


def test_a_number_known_exactly_is_judged() -> None:
    """An interval without width: a file's size."""
    a, b = (made_report([{"model": "m", "form": "u8", "median": Measured(v, v, v)}]) for v in (5.0, 5.5))
    assert verdicts(a, b) == ["worse"] and verdicts(b, a) == ["better"] and verdicts(a, a) == ["same"]


@pytest.mark.parametrize(("rate", "verdict"), [(31.0, "same"), (45.0, "worse"), (15.0, "better")])
def test_rates_are_judged_by_their_intervals(rate: float, verdict: str) -> None:
    a, b = (
        made_report([{"model": "m", "form": "u8", "EER": Measured(value, value - 4, value + 4)}])
        for value in (29.0, rate)
    )
    (change,) = compare(a, b, 3.0, NOWHERE, NOWHERE)
    assert change.verdict == verdict and change.told.startswith(f"{rate - 29.0:+.1f} % (")


# ---- scores in both folders ------------------------------------------------------------------------------------------


def accuracy_folder(folder: Path, scores: ScoreTable) -> Path:
    rate = 100 * eer(scores.bonafide, scores.spoof)
    columns = [Column("system", key=True), Column("EER", "%", "lower")]
    rows = [{"system": "ours/one", "EER": Measured(rate, rate - 5, rate + 5)}]
    with report_folder(folder) as temporary:
        write_scores(temporary / "ours-one.scores.txt", scores)
        report = new_report("accuracy", "", {}, {}, [Table.of("systems", "", "", columns, rows)])
        write_report(temporary, report)
    return folder


def scored(worse: float, seed: int = 5) -> ScoreTable:
    rng = np.random.default_rng(seed)
    labels = np.repeat([True, False], 300)
    base = rng.standard_normal(600) + np.where(labels, 1.0, -1.0)
    names = np.array([f"T{n:04d}" for n in range(600)])
    return ScoreTable(names, np.where(labels, "-", "A1"), labels, base - np.where(labels, worse, 0.0))


def test_scores_of_the_same_trials_find_what_intervals_cannot(tmp_path: Path) -> None:
    from benchmarks.report import read_report

    a = accuracy_folder(tmp_path / "a", scored(0.0))
    b = accuracy_folder(tmp_path / "b", scored(0.4))
    reports = read_report(a), read_report(b)
    assert [change.verdict for change in compare(*reports, 3.0, NOWHERE, NOWHERE)] == ["same"]
    assert [change.verdict for change in compare(*reports, 3.0, a, b)] == ["worse"]
    order = np.random.default_rng(6).permutation(600)
    shuffled = scored(0.4)
    parts = [getattr(shuffled, name)[order] for name in ("utterance", "attack", "is_bonafide", "score")]
    write_scores(b / "ours-one.scores.txt", ScoreTable(*parts))
    assert [change.verdict for change in compare(*reports, 3.0, a, b)] == ["worse"]
    parts[0] = np.array([f"U{n:04d}" for n in range(600)])  # other trials: the intervals again
    write_scores(b / "ours-one.scores.txt", ScoreTable(*parts))
    assert [change.verdict for change in compare(*reports, 3.0, a, b)] == ["same"]


# ---- around it -------------------------------------------------------------------------------------------------------


def test_rows_tables_and_values_of_one_side_alone_are_named() -> None:
    columns = (Column("model", key=True), Column("extra", "ms", "lower"))
    a = made_report([{"model": "f0", "form": "u8"}, {"model": "f0", "form": "s8"}])
    b = made_report([{"model": "f0", "form": "u8"}, {"model": "wide", "form": "u8"}])
    extra = Table.of("batches", "", "", columns, [{"model": "f0"}])
    b = new_report("latency", "", {}, {}, [*b.tables, extra])
    assert only_on_one_side(a, b) == [
        "only in A: rows of steps: f0, s8",
        "only in B: rows of steps: wide, u8",
        "only in B: table batches",
    ]


def test_another_machine_and_other_conditions_are_warned_of() -> None:
    a = made_report(machine={"cpu": {"model": "one"}, "load": 0.1}, conditions={"threads": [1]})
    b = made_report(machine={"cpu": {"model": "two"}, "load": 3.1}, conditions={"threads": [1, 2]})
    assert differences_in_front(a, b) == [
        "warning: machine, cpu, model: one in A, two in B",
        "warning: conditions, threads: 1 in A, 1, 2 in B",
    ]
    assert differences_in_front(a, a) == []


def folder_of(path: Path, report: Report) -> Path:
    with report_folder(path) as temporary:
        write_report(temporary, report)
    return path


def command(*arguments: Path | str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "benchmarks.compare", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True)


def test_exit_codes_and_the_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    a, b = folder_of(tmp_path / "a", run_of(rng)), folder_of(tmp_path / "b", run_of(rng, 1.2))
    worse, fine, whole = command(a, b), command(a, a), command(a, a, "--all")
    assert worse.returncode == 3 and re.search(r"\| net0, u8 +\| median +\|.*\+2\d\.\d % .* worse", worse.stdout)
    assert "1 worse, 9 same" in worse.stderr
    assert fine.returncode == 0 and fine.stdout == "" and whole.stdout.count("same") == 10
    assert command(b, a).returncode == 0  # better is no reason to stop


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path, "is no report"),
        (lambda path: folder_of(path, made_report(kind="stream")), "only like can be compared"),
    ],
)
def test_what_cannot_be_compared_is_an_error(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    a, b = folder_of(tmp_path / "a", made_report()), make(tmp_path / "b")
    done = command(a, b)
    assert done.returncode == 2 and done.stdout == "" and message in done.stderr and done.stderr.count("\n") == 1


def test_tables_of_other_units_or_keys_are_not_compared() -> None:
    first = Table.of("steps", "", "", [Column("m", key=True), Column("t", "ms", "lower")], [{"m": "x", "t": 1.0}])
    unit = Table.of("steps", "", "", [Column("m", key=True), Column("t", "s", "lower")], [{"m": "x", "t": 1.0}])
    key = Table.of("steps", "", "", [Column("n", key=True), Column("t", "ms", "lower")], [{"n": "x", "t": 1.0}])
    reports = {
        name: new_report("latency", "", {}, {}, [table]) for name, table in (("a", first), ("u", unit), ("k", key))
    }
    with pytest.raises(ShrikeError, match="t has another unit on each side"):
        verdicts(reports["a"], reports["u"])
    assert verdicts(reports["a"], reports["k"]) == []
    (sentence,) = only_on_one_side(reports["a"], reports["k"])
    assert "table steps is not compared" in sentence


# ---- intervals -------------------------------------------------------------------------------------------------------


def test_the_ratios_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(8), 0
    for _ in range(400):
        a, b = noisy(rng, 10.0), noisy(rng, 12.0)
        low, middle, high = ratio_of(a.rounds, b.rounds)
        assert low <= middle <= high
        inside += low <= 1.2 <= high
    assert 0.92 * 400 <= inside <= 0.995 * 400


def test_few_rounds_cannot_say() -> None:
    low, middle, high = ratio_of((1.0, 1.1), (2.0, 2.2))
    assert low == 0 and high == np.inf and middle == pytest.approx(2.0)
    assert paired_ratio((1.0, 1.1), (2.0, 2.2)) == pytest.approx((0.0, 2.0, np.inf))


def test_pairs_of_rounds_do_not_mind_what_disturbs_both() -> None:
    rng = np.random.default_rng(9)
    weather = np.exp(0.3 * rng.standard_normal(ROUNDS))
    a = 10 * weather * np.exp(0.005 * rng.standard_normal(ROUNDS))
    b = 10.3 * weather * np.exp(0.005 * rng.standard_normal(ROUNDS))
    low, middle, high = paired_ratio(tuple(a), tuple(b))
    assert 1.02 < low < 1.03 < high < 1.04 and low < middle < high
    low, _, high = ratio_of(tuple(a), tuple(b))
    assert low < 1 < high


def test_differences_widen_with_confidence() -> None:
    narrow, wide = (difference_of((1.0, 2.0, 3.0), (2.0, 3.0, 5.0), confidence) for confidence in (0.95, 0.99))
    assert narrow[1] == wide[1] == 1.0 and wide[0] < narrow[0] and narrow[2] < wide[2]
    assert narrow[0] == pytest.approx(1 - 2**0.5) and narrow[2] == pytest.approx(1 + 5**0.5)
