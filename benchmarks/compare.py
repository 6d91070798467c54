"""What became worse between two reports of one kind, and whether that is more than their noise.

    python -m benchmarks.compare docs/reports/latency runs/reports/latency
    python -m benchmarks.compare runs/reports/before runs/reports/after --tolerance 5 --all

Every value whose column says which way is better is compared, row by row. Times are judged by their rounds, as ratios;
rates by their intervals, as differences, or on the same trials where both folders hold the scores. A change counts when
chance would show one like it in fewer than 5 % of such comparisons, all values taken together, and when a ratio changes
by more than --tolerance besides: two runs of the same thing differ by some percent for reasons that no round shows.

Exit codes: 0 nothing became worse, 3 something did, 2 the reports cannot be compared.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import tyro

from benchmarks.markdown import flat, table_text
from benchmarks.noise import CONFIDENCE, Interval, difference_of, ratio_of, stretched
from benchmarks.schema import Cell, Column, Measured, Report, Table, read_report
from runtime.support.command import FAILED, parse, run
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from train.evaluate.scorefile import ScoreTable

RATES = ("%",)  # units in which differences are told, not ratios
SCORES = ".scores.txt"  # what follows a system's name in a folder with its scores
SYSTEM, EER = "system", "EER"  # columns of accuracy reports
RESAMPLES = 1000  # of trials that both folders hold scores of
MOST_DIFFERENCES = 12  # of machine and conditions that are told one by one
# What a machine is at a moment; another value does not make it another machine, and the run's notes speak of it.
PASSING = re.compile(r"^run, |load|temperature|throttling|available|current|stated|rails_watts|sm_clock$|memory_clock")


Verdict = Literal["worse", "better", "same", "noise unknown"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclass(frozen=True)
class Options:
    """Hold one report against another."""

    before: tyro.conf.Positional[Path]
    """The report that was there before."""
    after: tyro.conf.Positional[Path]
    """The new one."""
    tolerance: float = 3.0
    """Percent by which a time or another ratio may change without counting."""
    all: bool = False
    """Show what stayed the same as well."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < 1000:
            raise ShrikeError(f"--tolerance {self.tolerance}: percent, 0 or more, were expected")


def main() -> int:
    options = parse(Options, "benchmarks.compare", __doc__)
    from train.progress import say

    a, b = read_report(options.before), read_report(options.after)
    changes = compare(a, b, options.tolerance, options.before, options.after)
    for sentence in (*differences_in_front(a, b), *only_on_one_side(a, b)):
        say(sentence)
    shown = [change for change in changes if options.all or change.verdict != "same"]
    if shown:
        print(table_text(as_table(shown)))
    counts = {verdict: sum(change.verdict == verdict for change in changes) for verdict in VERDICTS}
    say(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing to compare")
    return FAILED if counts["worse"] else 0


@dataclass(frozen=True)
class Change:
    """One value on both sides."""

    table: str
    row: str
    column: Column
    a: float
    b: float
    interval: Interval | None  # of b / a, or of b - a for rates; None: of noise nothing is known
    verdict: Verdict

    @property
    def told(self) -> str:
        """In percent of A, for rates as a difference, and between what ends it lies for all that noise allows."""
        rate, unit = _is_rate(self.column), self.column.unit or "%"
        if self.interval is not None:
            low, middle, high = self.interval if rate else (100 * (end - 1) for end in self.interval)
            return f"{middle:+.1f} {unit if rate else '%'} ({low:+.1f} to {high:+.1f})"
        if rate:
            return f"{self.b - self.a:+.1f} {unit}"
        return f"{100 * (self.b / self.a - 1):+.1f} %" if self.a else "from 0"


def compare(a: Report, b: Report, tolerance: float, folder_a: Path, folder_b: Path) -> list[Change]:
    """Every value with a direction that both reports have."""
    if a.kind != b.kind:
        raise ShrikeError(f"{folder_a} is a report on {a.kind}, {folder_b} one on {b.kind}: only like can be compared")
    pairs = [pair for table in a.tables for pair in _pairs(table, b)]
    judged = sum(_has_noise(pair.before) and _has_noise(pair.after) for pair in pairs)
    confidence = 1 - (1 - CONFIDENCE) / max(1, judged)  # all together are wrong by chance in 5 % (Bonferroni)
    return [_judge(pair, confidence, tolerance, folder_a, folder_b) for pair in pairs]


@dataclass(frozen=True)
class _Pair:
    table: str
    key: tuple[Cell, ...]
    names: tuple[str, ...]  # of the key's columns
    column: Column
    before: float | Measured
    after: float | Measured


def _pairs(table: Table, b: Report) -> Iterator[_Pair]:
    other = next((found for found in b.tables if found.name == table.name), None)
    if other is None:
        return
    names = _keys(table)
    if not names or names != _keys(other):
        return
    places = {column.name: place for place, column in enumerate(other.columns)}
    others = {other.key(row): row for row in other.rows}
    for row in table.rows:
        match = others.get(table.key(row))
        for column, before in zip(table.columns, row, strict=True):
            if match is None or column.better == "none" or column.name not in places:
                continue
            after = match[places[column.name]]
            if other.columns[places[column.name]].unit != column.unit:
                raise ShrikeError(
                    f"table {table.name}: {column.name} has another unit on each side: measure both with one Shrike"
                )
            if before is not None and after is not None:
                yield _Pair(table.name, table.key(row), names, column, before, after)


def _judge(pair: _Pair, confidence: float, tolerance: float, folder_a: Path, folder_b: Path) -> Change:
    a, b = _measured(pair.before), _measured(pair.after)
    interval = _by_scores(pair, confidence, folder_a, folder_b) or _interval(pair.column, a, b, confidence)
    verdict: Verdict = "noise unknown"
    if interval is not None:
        low, middle, high = interval
        neutral = 0.0 if _is_rate(pair.column) else 1.0
        counts = _is_rate(pair.column) or abs(middle - 1) > tolerance / 100
        rose, fell = low > neutral and counts, high < neutral and counts
        lower_is_better = pair.column.better == "lower"
        verdict = "worse" if (rose if lower_is_better else fell) else "better" if rose or fell else "same"
    elif a.value == b.value or (not _is_rate(pair.column) and abs(b.value - a.value) <= abs(a.value) * tolerance / 100):
        verdict = "same"
    row = ", ".join(map(str, pair.key))
    return Change(pair.table, row, pair.column, a.value, b.value, interval, verdict)


def _interval(column: Column, a: Measured, b: Measured, confidence: float) -> Interval | None:
    """By rounds where both have them, else by intervals; None where one side's noise is not known."""
    if len(a.rounds) > 1 and len(b.rounds) > 1 and min(*a.rounds, *b.rounds) > 0 and not _is_rate(column):
        return ratio_of(a.rounds, b.rounds, confidence)
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None
    difference = difference_of((a.low, a.value, a.high), (b.low, b.value, b.high), confidence)
    if _is_rate(column):
        return difference
    return None if a.value <= 0 else tuple(1 + end / a.value for end in difference)  # type: ignore[return-value]


def _by_scores(pair: _Pair, confidence: float, folder_a: Path, folder_b: Path) -> Interval | None:
    """An EER whose scores stand in both folders, on the same trials: what makes a trial hard for both cancels."""
    if pair.names != (SYSTEM,) or pair.column.name != EER:
        return None
    name = str(pair.key[0])
    for letter in "/\\:":
        name = name.replace(letter, "-")
    paths = [folder / f"{name}{SCORES}" for folder in (folder_a, folder_b)]
    if not all(path.is_file() for path in paths):
        return None
    from train.evaluate.bootstrap import paired_bootstrap_eer_difference
    from train.evaluate.scorefile import read_scores

    first, second = _by_name(read_scores(paths[0])), _by_name(read_scores(paths[1]))
    if first.utterance.tolist() != second.utterance.tolist() or (first.is_bonafide != second.is_bonafide).any():
        return None
    found = paired_bootstrap_eer_difference(second.score, first.score, first.is_bonafide, RESAMPLES)
    difference, low, high = (100 * end for end in found)
    return stretched((low, difference, high), confidence)


def _by_name(table: "ScoreTable") -> "ScoreTable":
    order = table.utterance.argsort()
    parts = {field.name: getattr(table, field.name)[order] for field in fields(table)}
    return replace(table, **parts)


def _keys(table: Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns if column.key)


def _is_rate(column: Column) -> bool:
    return column.unit in RATES


def _measured(value: float | Measured) -> Measured:
    return value if isinstance(value, Measured) else Measured(float(value))


def _has_noise(value: float | Measured) -> bool:
    return isinstance(value, Measured) and (value.low is not None or len(value.rounds) > 1)


# ---- what is said around it ------------------------------------------------------------------------------------------


def differences_in_front(a: Report, b: Report) -> list[str]:
    """Why the two may differ for other reasons than the models: machine, conditions, version."""
    found = []
    for what, before, after in (("machine", a.machine, b.machine), ("conditions", a.conditions, b.conditions)):
        first, second = dict(flat(before)), dict(flat(after))
        names = [name for name in {**first, **second} if what == "conditions" or not PASSING.search(name)]
        for name in names:
            if first.get(name) != second.get(name):
                found.append(f"{what}, {name}: {first.get(name, 'nothing')} in A, {second.get(name, 'nothing')} in B")
    if a.shrike != b.shrike:
        found.append(f"Shrike {a.shrike} in A, {b.shrike} in B")
    more = len(found) - MOST_DIFFERENCES
    found = [f"warning: {sentence}" for sentence in found[:MOST_DIFFERENCES]]
    return [*found, f"warning: and {more} more such differences"] if more > 0 else found


def only_on_one_side(a: Report, b: Report) -> list[str]:
    """Rows, tables and values that one report has and the other has not."""
    found = []
    for one, other, side in ((a, b, "A"), (b, a, "B")):
        others = {table.name: table for table in other.tables}
        for table in one.tables:
            judged = [column.name for column in table.columns if column.better != "none"]
            if not judged or not _keys(table):
                continue
            there = others.get(table.name)
            if there is None:
                found.append(f"only in {side}: table {table.name}")
            elif _keys(there) != _keys(table):
                said = f"table {table.name} is not compared: its rows are told apart by other columns in A than in B"
                found += [said] if side == "A" else []
            else:
                keys = {there.key(row) for row in there.rows}
                missing = [table.key(row) for row in table.rows if table.key(row) not in keys]
                rows = "; ".join(", ".join(map(str, key)) for key in missing)
                found += [f"only in {side}: rows of {table.name}: {rows}"] if missing else []
                names = {column.name for column in there.columns}
                found += [f"only in {side}: {table.name}, column {name}" for name in judged if name not in names]
    return found


def as_table(changes: Sequence[Change]) -> Table:
    columns = (
        Column("table", key=True),
        Column("row", key=True),
        Column("value", key=True),
        Column("A"),
        Column("B"),
        Column("unit"),
        Column("change"),
        Column("verdict"),
    )
    rows: list[dict[str, Cell]] = [
        {
            "table": change.table,
            "row": change.row,
            "value": change.column.name,
            "A": change.a,
            "B": change.b,
            "unit": change.column.unit,
            "change": change.told,
            "verdict": change.verdict,
        }
        for change in sorted(changes, key=lambda change: VERDICTS.index(change.verdict))
    ]
    return Table.of("changes", "Changes", "", columns, rows)


if __name__ == "__main__":
    run(main)
