"""Compare two reports of one kind: what became worse, and whether that is more than noise.

    python -m benchmarks.compare docs/reports/latency runs/reports/latency
    python -m benchmarks.compare runs/reports/before runs/reports/after --tolerance 5 --all

Every value whose column has a direction is compared, row by row: times as ratios with a bootstrap interval over the
rounds, rates as differences of their intervals (benchmarks.accuracy --scores compares systems trial by trial). A change
counts where its interval, at 95 % for all values together, excludes none, and where a ratio exceeds --tolerance.

Exit codes: 0 nothing became worse, 3 something did, 2 the reports cannot be compared.
"""

from collections.abc import Iterator, Sequence
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

    table: str
    key: tuple[Cell, ...]
    column: Column
    a: Measured
    b: Measured
    interval: Interval | None = None  # of b / a, or of b - a for rates; None: the noise is unknown
    verdict: Verdict = "noise unknown"

    @property
    def is_rate(self) -> bool:
        return self.column.unit == RATE

    @property
    def has_noise(self) -> bool:
        return all(side.low is not None or len(side.rounds) > 1 for side in (self.a, self.b))

    @property
    def text(self) -> str:
        """The change with its interval: percent of A, or a difference."""
        if self.interval is None:
            middle = self.b.value - self.a.value if self.is_rate else 100 * (self.b.value / (self.a.value or 1) - 1)
            return f"{middle:+.1f} %"
        low, middle, high = self.interval if self.is_rate else (100 * (end - 1) for end in self.interval)
        return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def compare(a: Report, b: Report, options: Options) -> list[Change]:
    """Every value with a direction that both reports have."""
    require(a.kind == b.kind, f"{options.after}: kind {b.kind}; expected {a.kind}, the kind of {options.before}")
    first, second = identity(a.machine), identity(b.machine)
    odd = [f"{name}: {first[name]} and {second[name]}" for name in first if first[name] != second[name]]
    same = not odd or a.kind not in TIMED or options.any_machine
    require(same, f"the machines differ ({'; '.join(odd)}); compare runs of one, or add --any-machine")
    pairs = [pair for table in a.tables for pair in _pairs(table, b)]
    judged = sum(pair.has_noise for pair in pairs)
    confidence = 1 - (1 - CONFIDENCE) / max(1, judged)  # Bonferroni: all together are wrong in 5 %
    return [_judge(pair, confidence, options) for pair in pairs]


def _pairs(table: Table, b: Report) -> Iterator[Change]:
    other = next((found for found in b.tables if found.name == table.name and _keys(found) == _keys(table)), None)
    if other is None or not _keys(table):
        return
    units = {column.name: column.unit for column in other.columns}
    others = dict(zip(map(other.key, other.rows), other.records(), strict=True))
    for key, row in zip(map(table.key, table.rows), table.records(), strict=True):
        for column in table.columns:
            require(
                units.get(column.name, column.unit) == column.unit, f"table {table.name}: {column.name}: other units"
            )
            a, b_side = row[column.name], others.get(key, {}).get(column.name)
            if column.better != "none" and a is not None and b_side is not None:
                yield Change(table.name, key, column, _measured(a), _measured(b_side))


def _measured(cell: Cell) -> Measured:
    return cell if isinstance(cell, Measured) else Measured(float(cell or 0.0))


def _judge(change: Change, confidence: float, options: Options) -> Change:
    a, b, tolerance = change.a, change.b, options.tolerance / 100
    interval = _interval(change, confidence)
    if interval is None:
        near = a.value == b.value or (not change.is_rate and abs(b.value - a.value) <= abs(a.value) * tolerance)
        return replace(change, verdict="same" if near else "noise unknown")
    low, middle, high = interval
    neutral = 0.0 if change.is_rate else 1.0
    counts = change.is_rate or abs(middle - 1) > tolerance
    rose, fell = low > neutral and counts, high < neutral and counts
    worse = rose if change.column.better == "lower" else fell
    return replace(change, interval=interval, verdict="worse" if worse else "better" if rose or fell else "same")


def _interval(change: Change, confidence: float) -> Interval | None:
    """By rounds where both have them, else by intervals; None where the noise of one side is unknown."""
    a, b = change.a, change.b
    if len(a.rounds) > 1 and len(b.rounds) > 1 and min(*a.rounds, *b.rounds) > 0 and not change.is_rate:
        return ratio(a.rounds, b.rounds, confidence=confidence)
    if a.low is None or a.high is None or b.low is None or b.high is None or (a.value <= 0 and not change.is_rate):
        return None
    low, middle, high = difference((a.low, a.value, a.high), (b.low, b.value, b.high), confidence)
    return (low, middle, high) if change.is_rate else (1 + low / a.value, 1 + middle / a.value, 1 + high / a.value)


def _keys(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.key)


def circumstances(a: Report, b: Report) -> list[str]:
    """Differences of machine, conditions, versions and rows, as warnings."""
    found = []
    sides = [
        {"Shrike": r.shrike, "machine": identity(r.machine), "packages": r.machine.get("packages") or {},
         "conditions": r.conditions}
        for r in (a, b)
    ]  # fmt: skip
    first, second = (dict(flat(side)) for side in sides)
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            found.append(f"warning: {name}: {first.get(name, '-')} in A, {second.get(name, '-')} in B")
    rows = [{f"{t.name}, {_keys(t)} {t.key(row)}" for t in r.tables if _keys(t) for row in t.rows} for r in (a, b)]
    found += [f"only in A: {row}" for row in sorted(rows[0] - rows[1])]
    found += [f"only in B: {row}" for row in sorted(rows[1] - rows[0])]
    more = len(found) - MOST_DIFFERENCES
    return [*found[:MOST_DIFFERENCES], f"warning: and {more} more"] if more > 0 else found


def as_table(changes: Sequence[Change]) -> Table:
    rows: list[dict[str, Cell]] = [
        {"table": c.table, "row": ", ".join(map(str, c.key)), "value": c.column.name, "A": c.a.value, "B": c.b.value,
         "unit": c.column.unit, "change": c.text, "verdict": c.verdict}
        for c in sorted(changes, key=lambda change: VERDICTS.index(change.verdict))
    ]  # fmt: skip
    return Table.of("changes", "Changes", "", "table*; row*; value*; A; B; unit; change; verdict", rows)


if __name__ == "__main__":
    run(main)
