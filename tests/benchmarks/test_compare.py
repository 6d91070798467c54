"""Comparison: noise is not a change, a real change is found, and other machines are refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import compare as command
from benchmarks.compare import Options, circumstances, compare
from benchmarks.report import Measured, Report, Table, new_report, report_folder, write_report
from benchmarks.stats import difference, ratio
from runtime.support.errors import ShrikeError
from tests.benchmarks.made_report import made_report

NOWHERE = Path("nowhere")
ROUNDS = 20


def noisy(rng: np.random.Generator, milliseconds: float, noise: float = 0.02, rounds: int = ROUNDS) -> Measured:
    values = milliseconds * np.exp(noise * rng.standard_normal(rounds))
    return Measured(float(np.median(values)), rounds=tuple(map(float, values)))


def run_of(rng: np.random.Generator, slower: float = 1.0, models: int = 10) -> Report:
    """As a latency report: the first model's time by a factor."""
    rows = [
        {"model": f"net{n}", "form": "u8", "median": noisy(rng, (5 + n) * (slower if n == 0 else 1.0))}
        for n in range(models)
    ]
    return made_report(rows)


def verdicts(a: Report, b: Report, tolerance: float = 3.0) -> list[str]:
    return [change.verdict for change in compare(a, b, Options(NOWHERE, NOWHERE, tolerance))]


def single(name: str, value: Measured | float) -> Report:
    return made_report([{"model": "m", "form": "u8", name: value}])


def test_two_runs_of_the_same_are_rarely_a_change() -> None:
    rng = np.random.default_rng(0)
    runs = [(run_of(rng, models=5), run_of(rng, models=5)) for _ in range(20)]
    assert sum(set(verdicts(*pair, tolerance=0.0)) != {"same"} for pair in runs) <= 4
    assert sum(set(verdicts(*pair)) != {"same"} for pair in runs) == 0


@pytest.mark.parametrize(("slower", "verdict"), [(1.10, "worse"), (0.90, "better")])
def test_ten_percent_are_found_in_two_percent_of_noise(slower: float, verdict: str) -> None:
    rng = np.random.default_rng(2)
    found = [verdicts(run_of(rng, models=5), run_of(rng, slower, models=5)) for _ in range(20)]
    assert all(row[0] == verdict for row in found)
    assert sum(set(row[1:]) == {"same"} for row in found) >= 19


def test_a_change_within_the_tolerance_does_not_count() -> None:
    rng = np.random.default_rng(3)
    a, b = (single("median", noisy(rng, value, 0.001)) for value in (10.0, 10.2))
    assert verdicts(a, b, tolerance=3.0) == ["same"] and verdicts(a, b, tolerance=1.0) == ["worse"]


def test_the_columns_direction_counts() -> None:
    rng = np.random.default_rng(4)
    fast, slow = (single("speed", noisy(rng, value)) for value in (100.0, 80.0))
    assert verdicts(fast, slow) == ["worse"] and verdicts(slow, fast) == ["better"]


def test_without_noise_nothing_is_judged_and_an_exact_number_is() -> None:
    assert verdicts(single("median", 5.0), single("median", 50.0)) == ["noise unknown"]
    assert verdicts(single("median", 5.0), single("median", 5.1)) == ["same"]  # within the tolerance
    a, b = (single("median", Measured(value, value, value)) for value in (5.0, 5.5))
    assert verdicts(a, b) == ["worse"] and verdicts(b, a) == ["better"] and verdicts(a, a) == ["same"]


@pytest.mark.parametrize(("rate", "verdict"), [(31.0, "same"), (45.0, "worse"), (15.0, "better")])
def test_rates_are_judged_by_their_intervals(rate: float, verdict: str) -> None:
    assert verdicts(*(single("EER", Measured(v, v - 4, v + 4)) for v in (29.0, rate))) == [verdict]


def test_times_of_other_machines_and_power_modes_are_refused_and_rates_are_not() -> None:
    def report(kind: str, mode: str) -> Report:
        return made_report(machine={"cpu": {"model": "Cortex"}, "jetson": {"power_mode": mode}}, kind=kind)

    pair = report("latency", "15W"), report("latency", "MAXN")
    with pytest.raises(ShrikeError):
        compare(*pair, Options(NOWHERE, NOWHERE))
    assert compare(*pair, Options(NOWHERE, NOWHERE, any_machine=True))
    assert compare(report("accuracy", "15W"), report("accuracy", "MAXN"), Options(NOWHERE, NOWHERE))
    with pytest.raises(ShrikeError):
        compare(made_report(kind="latency"), made_report(kind="stream"), Options(NOWHERE, NOWHERE))


def test_rows_of_one_side_are_listed() -> None:
    a = made_report([{"model": "f0", "form": "u8"}, {"model": "f0", "form": "s8"}])
    b = made_report([{"model": "f0", "form": "u8"}, {"model": "wide", "form": "u8"}])
    found = circumstances(a, b)
    assert len(found) == 2 and "s8" in found[0] and "wide" in found[1]
    assert circumstances(a, a) == []


def test_tables_of_other_units_or_keys() -> None:
    reports = [
        new_report("latency", "", {}, [Table.of("steps", "", "", heads, [{heads[0]: "x", "t": 1.0}])])
        for heads in ("m*; t, ms <", "m*; t, s <", "n*; t, ms <")
    ]
    with pytest.raises(ShrikeError):
        verdicts(reports[0], reports[1])
    assert verdicts(reports[0], reports[2]) == [] and len(circumstances(reports[0], reports[2])) == 2


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(7)
    for name, slower in (("a", 1.0), ("b", 1.2)):
        with report_folder(tmp_path / name) as temporary:
            write_report(temporary, run_of(rng, slower))
    codes = []
    for pair in ("ab", "ba", "aa"):
        monkeypatch.setattr(sys, "argv", ["compare", *(str(tmp_path / name) for name in pair)])
        codes.append(command.main())
    assert codes == [3, 0, 0] and "net0, u8" in capsys.readouterr().out


def test_the_ratios_interval_covers_the_truth() -> None:
    rng, inside = np.random.default_rng(8), 0
    for _ in range(100):
        low, middle, high = ratio(noisy(rng, 10.0).rounds, noisy(rng, 12.0).rounds)
        assert low <= middle <= high
        inside += low <= 1.2 <= high
    assert inside >= 88


def test_few_rounds_have_no_interval() -> None:
    for paired in (False, True):
        assert ratio((1.0, 1.1), (2.0, 2.2), paired) == pytest.approx((0.0, 2.0, np.inf))


def test_pairs_of_rounds_cancel_what_disturbs_both() -> None:
    rng = np.random.default_rng(9)
    weather = np.exp(0.3 * rng.standard_normal(ROUNDS))
    a, b = (level * weather * np.exp(0.005 * rng.standard_normal(ROUNDS)) for level in (10, 10.3))
    low, middle, high = ratio(tuple(a), tuple(b), paired=True)
    assert 1.02 < low < 1.03 < high < 1.04 and low < middle < high
    low, _, high = ratio(tuple(a), tuple(b))
    assert low < 1 < high


def test_differences_widen_with_confidence() -> None:
    narrow, wide = (difference((1.0, 2.0, 3.0), (2.0, 3.0, 5.0), confidence) for confidence in (0.95, 0.99))
    assert narrow[1] == wide[1] == 1.0 and wide[0] < narrow[0] and narrow[2] < wide[2]
    assert narrow[0] == pytest.approx(1 - 2**0.5) and narrow[2] == pytest.approx(1 + 5**0.5)
