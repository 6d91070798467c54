"""What a report holds, as frozen dataclasses, and report.json, which is read as strictly as a card.

    report = read_report(Path("runs/reports/latency"))
    for row in report.table("steps").records():
        print(row["model"], row["median"])

Numbers are finite; what was not measured is None. docs/reports.md says what every entry means.
"""

import json
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runtime.card.checksums import check_name
from runtime.card.model_card import CREATED
from runtime.support import codec
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

VERSION = 1  # of the schema; another one is another Shrike's
NAME = "report.json"
LARGEST_REPORT = 64 << 20  # bytes; ours have some hundred thousand
LONGEST_LINE = 120  # characters of report.json

Better = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class Measured:
    """A number with what is known of its noise: an interval at 95 %, or what each round of the run gave, or both."""

    value: float
    low: float | None = None
    high: float | None = None
    rounds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _demand((self.low is None) == (self.high is None), "an interval has two ends")
        numbers = [self.value, *self.rounds, *(end for end in (self.low, self.high) if end is not None)]
        _demand(
            all(math.isfinite(number) for number in numbers), "a finite number was expected; None where there is none"
        )
        _demand(self.low is None or self.high is None or self.low <= self.high, "an interval's lower end comes first")


Cell = str | int | float | bool | Measured | None


@dataclass(frozen=True)
class Column:
    """What stands in one column, and which way is better: what benchmarks.compare judges."""

    name: str
    unit: str = ""  # ms, %, MB; empty for a count or text
    better: Better = "none"
    key: bool = False  # the key columns together tell one row from all others
    digits: int | None = None  # decimals on the page; None: four significant digits

    def __post_init__(self) -> None:
        _demand(bool(self.name) and not set(self.name) & set(",|=\"'"), f"a column cannot be called {self.name!r}")
        _demand(not (self.key and self.better != "none"), f"{self.name} is a key: it has no better or worse")
        _demand(self.digits is None or 0 <= self.digits <= 9, f"{self.name}: 0 to 9 digits were expected")


@dataclass(frozen=True)
class Table:
    """Rows under columns; a cell is text, a number, true or false, Measured, or None where nothing was measured."""

    name: str  # what a marker and benchmarks.compare call it
    title: str
    about: str  # how to read it, in a sentence or two
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(
        cls, name: str, title: str, about: str, columns: Sequence[Column], rows: Iterable[Mapping[str, Cell]]
    ) -> "Table":
        """From rows by column name; what a row leaves out is None, what no column has is a bug."""
        rows, names = list(rows), [column.name for column in columns]
        assert all(set(row) <= set(names) for row in rows), f"{name}: a row has entries that no column has"
        return cls(name, title, about, tuple(columns), tuple(tuple(row.get(key) for key in names) for row in rows))

    def __post_init__(self) -> None:
        _demand(bool(re.fullmatch(r"[a-z][a-z0-9-]*", self.name)), f"a table cannot be called {self.name!r}")
        names = [column.name for column in self.columns]
        _demand(bool(names) and len(set(names)) == len(names), f"{self.name}: columns with names of their own expected")
        _demand(all(len(row) == len(names) for row in self.rows), f"{self.name}: a row is not as long as its columns")
        rows = tuple(tuple(self._cell(*pair) for pair in zip(self.columns, row, strict=True)) for row in self.rows)
        object.__setattr__(self, "rows", rows)  # JSON's tables have become Measured
        keys = [self.key(row) for row in rows]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        _demand(not any(column.key for column in self.columns) or twice is None, f"{self.name}: {twice} stands twice")

    def _cell(self, column: Column, cell: Any) -> Cell:
        where = f"{self.name}: {column.name}"
        if isinstance(cell, dict):
            cell = codec.build(Measured, cell, where)
        number = isinstance(cell, Measured) or (isinstance(cell, int | float) and not isinstance(cell, bool))
        _demand(isinstance(cell, float | int | str | Measured) or cell is None, f"{where}: {cell!r} is no value")
        _demand(not isinstance(cell, float) or math.isfinite(cell), f"{where} is {cell}; None where there is none")
        _demand(column.better == "none" or number or cell is None, f"{where} is {cell!r}; a number was expected")
        _demand(not column.key or isinstance(cell, str | int), f"{where} is {cell!r}; a key is text or a whole number")
        return cell

    def key(self, row: Sequence[Cell]) -> tuple[Cell, ...]:
        """What identifies this row."""
        return tuple(cell for column, cell in zip(self.columns, row, strict=True) if column.key)

    def without_empty(self) -> "Table":
        """Less the columns in which nothing stands: nobody reads a column of dashes."""
        if not self.rows:
            return self
        kept = [any(row[place] is not None for row in self.rows) for place in range(len(self.columns))]
        columns = tuple(column for column, keep in zip(self.columns, kept, strict=True) if keep)
        rows = tuple(tuple(cell for cell, keep in zip(row, kept, strict=True) if keep) for row in self.rows)
        return replace(self, columns=columns, rows=rows)

    def records(self) -> list[dict[str, Cell]]:
        """Every row by column name."""
        return [dict(zip((column.name for column in self.columns), row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Plot:
    """A picture beside the report."""

    file: str
    caption: str

    def __post_init__(self) -> None:
        check_name(self.file)


@dataclass(frozen=True)
class Report:
    """One run of one benchmark."""

    version: int
    kind: str  # latency, accuracy, stream: what may be compared with each other
    title: str
    command: str  # that made it, without this machine's paths
    created: str  # UTC
    shrike: str  # version
    machine: dict[str, Any]  # benchmarks.host.describe()
    conditions: dict[str, Any]  # what was chosen for this run, and what it found
    tables: tuple[Table, ...]
    notes: tuple[str, ...]  # what a reader must not overlook
    plots: tuple[Plot, ...]

    def __post_init__(self) -> None:
        _demand(bool(re.fullmatch(r"[a-z][a-z-]*", self.kind)), f"a report's kind cannot be {self.kind!r}")
        _demand(len({table.name for table in self.tables}) == len(self.tables), "two tables have one name")
        try:
            time.strptime(self.created, CREATED)
        except ValueError:
            raise ShrikeError(f"created is {self.created!r}; a time as in 2025-01-31T12:00:00Z was expected") from None

    def table(self, name: str) -> Table:
        for table in self.tables:
            if table.name == name:
                return table
        raise ShrikeError(f"no table {name!r} in this report; there are {', '.join(t.name for t in self.tables)}")


def read_report(folder: Path) -> Report:
    """The report in this folder; whatever cannot be used gives a ShrikeError."""
    path = folder / NAME if folder.is_dir() else folder
    if not path.is_file():
        raise ShrikeError(
            f"{folder} is no report: a folder with {NAME} was expected, as the benchmarks' --out leaves it"
            + nearby(folder)
        )
    if path.stat().st_size > LARGEST_REPORT:
        raise ShrikeError(f"{path} is no report: at most {LARGEST_REPORT >> 20} MiB were expected")
    try:
        values = codec.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ShrikeError(f"{path} cannot be read: {error.strerror}") from error
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise ShrikeError(
            f"{path} has report version {version!r}, this Shrike reads version {VERSION}; "
            "use the Shrike that wrote it (its entry shrike), or measure again"
        )
    return codec.build(Report, values, str(path))


def as_json(report: Report) -> str:
    """The report as JSON, what fits on one line on one line: a row of a table stays one."""

    def lines(value: Any, indent: str) -> str:
        flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
        if len(indent) + len(flat) <= LONGEST_LINE or not isinstance(value, dict | list | tuple):
            return flat
        deeper = indent + " "
        if isinstance(value, dict):
            parts = [f"{json.dumps(key, ensure_ascii=False)}: {lines(item, deeper)}" for key, item in value.items()]
        elif all(isinstance(item, int | float) for item in value):
            return flat  # what the rounds gave
        else:
            parts = [lines(item, deeper) for item in value]
        begin, end = "{}" if isinstance(value, dict) else "[]"
        return f"{begin}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{end}"

    return lines(asdict(report), "") + "\n"  # not codec.plain: conditions keep their author's order


def _demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise ShrikeError(sentence)
