"""Compare two reports of one kind: what became worse, and whether that is more than noise.

    python -m benchmarks.compare docs/reports/latency runs/reports/latency
    python -m benchmarks.compare runs/reports/before runs/reports/after --tolerance 5 --all

Every value whose column has a direction is compared, row by row: times as ratios with a bootstrap interval over the
rounds, rates as differences of their intervals (benchmarks.accuracy --scores compares systems trial by trial). A change
counts where its interval, at 95 % for all values together, excludes none, and where a ratio exceeds --tolerance.

Exit codes: 0 nothing became worse, 3 something did, 2 the reports cannot be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import tyro

from benchmarks.host import identity
from benchmarks.report import Cell, Column, Measured, Report, Table, read_report
from benchmarks.report.markdown import flat, table_text
from benchmarks.stats import CONFIDENCE, Interval, difference, ratio
from runtime.card.schema import require
from runtime.support.command import FAILED, parse, run

RATE = "%"  # unit of which differences are shown, not ratios
TIMED = ("latency", "stream", "streams")  # kinds whose values depend on the machine
MOST_DIFFERENCES = 20  # that are listed

RowKey = tuple[str, tuple[tuple[str, str], ...]]  # a table's name, and columns and cells of the row's key
Verdict = Literal["worse", "better", "same", "noise unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Options:
    """Compare a report with an earlier one."""

    before: tyro.conf.Positional[Path]
    """The earlier report."""
    after: tyro.conf.Positional[Path]
    """The later report."""
    tolerance: float = 3.0
    """Percent by which a ratio may change without counting."""
    all: bool = False
    """Show unchanged values as well."""
    any_machine: bool = False
    """Compare times of different machines, power modes or clock settings; without it they are refused."""

    def __post_init__(self) -> None:
        require(0 <= self.tolerance < 1000, f"--tolerance {self.tolerance}: expected percent, 0 or more")


def main() -> int:
    options = parse(Options, "benchmarks.compare", __doc__)
    from train.progress import say

    a, b = read_report(options.before), read_report(options.after)
    changes = compare(a, b, options)
    for line in circumstances(a, b):
        say(line)
    if shown := [change for change in changes if options.all or change.verdict != "same"]:
        print(table_text(as_table(shown)))
    counts = {verdict: sum(change.verdict == verdict for change in changes) for verdict in VERDICTS}
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to compare")
    return FAILED if counts["worse"] else 0


@dataclass(frozen=True)
class Change:
    """One value on both sides."""

    row: RowKey
    column: Column
    a: Measured
    b: Measured
    percent: Interval | None = None  # of A, or points of a rate: low, estimate, high; None: the noise is unknown
    verdict: Verdict = "noise unknown"

    @property
    def is_rate(self) -> bool:
        return self.column.unit == RATE

    @property
    def estimate(self) -> float:
        return self.b.value - self.a.value if self.is_rate else 100 * (self.b.value / (self.a.value or 1) - 1)


def compare(a: Report, b: Report, options: Options) -> list[Change]:
    """Every value with a direction that both reports have."""
    require(a.kind == b.kind, f"{options.after}: kind {b.kind}; expected {a.kind}, the kind of {options.before}")
    first, second = identity(a.machine), identity(b.machine)
    odd = [f"{name}: {first[name]} and {second[name]}" for name in first if first[name] != second[name]]
    same = not odd or a.kind not in TIMED or options.any_machine
    require(same, f"the machines differ ({'; '.join(odd)}); compare runs of one, or add --any-machine")
    rows, others, pairs = rows_of(a), rows_of(b), list[Change]()
    for key in filter(others.__contains__, rows):
        for name, (column, cell) in rows[key].items():
            other, other_cell = others[key].get(name, (column, None))
            require(other.unit == column.unit, f"table {key[0]}: {name}: other units")
            if column.better != "none" and cell is not None and other_cell is not None:
                pairs.append(Change(key, column, _measured(cell), _measured(other_cell)))
    noisy = sum(all(side.low is not None or len(side.rounds) > 1 for side in (pair.a, pair.b)) for pair in pairs)
    confidence = 1 - (1 - CONFIDENCE) / max(1, noisy)  # Bonferroni: all together are wrong in 5 %
    return [_judge(pair, confidence, options.tolerance) for pair in pairs]


def _measured(cell: str | float | Measured) -> Measured:
    return cell if isinstance(cell, Measured) else Measured(float(cell))


def rows_of(report: Report) -> dict[RowKey, dict[str, tuple[Column, Cell]]]:
    """Cells by column, of all rows with a key."""
    found = dict[RowKey, dict[str, tuple[Column, Cell]]]()
    for table in report.tables:
        for row in table.rows:
            cells = list(zip(table.columns, row, strict=True))
            if key := tuple((column.name, str(cell)) for column, cell in cells if column.key):
                found[table.name, key] = {column.name: (column, cell) for column, cell in cells}
    return found


def _judge(change: Change, confidence: float, tolerance: float) -> Change:
    percent = _percent(change.a, change.b, change.is_rate, confidence)
    if percent is None:
        near = change.a.value == change.b.value or (not change.is_rate and abs(change.estimate) <= tolerance)
        return replace(change, verdict="same" if near else "noise unknown")
    low, middle, high = percent
    counts = (low > 0 or high < 0) and (change.is_rate or abs(middle) > tolerance)
    worse = (low > 0) == (change.column.better == "lower")
    return replace(change, percent=percent, verdict=("worse" if worse else "better") if counts else "same")


def _percent(a: Measured, b: Measured, is_rate: bool, confidence: float) -> Interval | None:
    """By rounds where both have them, else by intervals; None where the noise of one side is unknown."""
    if len(a.rounds) > 1 and len(b.rounds) > 1 and min(*a.rounds, *b.rounds) > 0 and not is_rate:
        low, middle, high = ratio(a.rounds, b.rounds, confidence=confidence)
        return 100 * (low - 1), 100 * (middle - 1), 100 * (high - 1)
    if a.low is None or a.high is None or b.low is None or b.high is None or (a.value <= 0 and not is_rate):
        return None
    low, middle, high = difference((a.low, a.value, a.high), (b.low, b.value, b.high), confidence)
    scale = 1 if is_rate else 100 / a.value
    return scale * low, scale * middle, scale * high


def circumstances(a: Report, b: Report) -> list[str]:
    """Differences of machine, conditions, versions and rows, as warnings."""
    found = []
    first, second = (
        dict(flat({"Shrike": r.shrike, "machine": identity(r.machine), "packages": r.machine.get("packages") or {},
                   "conditions": r.conditions}))
        for r in (a, b)
    )  # fmt: skip
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            found.append(f"warning: {name}: {first.get(name, '-')} in A, {second.get(name, '-')} in B")
    rows, others = rows_of(a), rows_of(b)
    for side, odd in (("A", rows.keys() - others.keys()), ("B", others.keys() - rows.keys())):
        found += [f"only in {side}: {table}, {', '.join(map(' '.join, key))}" for table, key in sorted(odd)]
    more = len(found) - MOST_DIFFERENCES
    return [*found[:MOST_DIFFERENCES], f"warning: and {more} more"] if more > 0 else found


def as_table(changes: Sequence[Change]) -> Table:
    """The changes, the worst first."""
    rows = list[dict[str, Cell]]()
    for change in sorted(changes, key=lambda change: VERDICTS.index(change.verdict)):
        noise = f" ({change.percent[0]:+.1f} to {change.percent[2]:+.1f})" if change.percent else ""
        rows.append({
            "table": change.row[0], "row": ", ".join(cell for _, cell in change.row[1]), "value": change.column.name,
            "A": change.a.value, "B": change.b.value, "unit": change.column.unit,
            "change": f"{change.percent[1] if change.percent else change.estimate:+.1f} %{noise}",
            "verdict": change.verdict,
        })  # fmt: skip
    return Table.of("changes", "Changes", "", "table*; row*; value*; A; B; unit; change; verdict", rows)


if __name__ == "__main__":
    run(main)
