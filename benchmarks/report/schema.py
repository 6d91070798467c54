"""The schema of report.json as frozen dataclasses, and its strict reader: a report may come from anybody.

Numbers are finite; a value that was not measured is None. docs/reports.md describes every entry.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from runtime.card.checksums import check_name
from runtime.card.schema import require
from runtime.support import codec
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

VERSION = 1  # of the schema
NAME = "report.json"
LARGEST_REPORT = 64 << 20  # bytes; ours have some hundred thousand
LONGEST_LINE = 120  # characters of report.json
HEADING = re.compile(r"([^,*<>]+?)\s*(\*)?(?:,\s*([^<>]*?))?\s*([<>])?\s*(?:\.(\d))?")  # name*, unit < .digits

Better = Literal["lower", "higher", "none"]


@dataclass(frozen=True)
class Measured:
    """A number with its noise, where known: a 95 % interval, the values of the run's rounds, or both."""

    value: float
    low: float | None = None
    high: float | None = None
    rounds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        ends = [end for end in (self.low, self.high) if end is not None]
        require(len(ends) != 1 and ends == sorted(ends), "an interval needs a lower and an upper end")
        require(all(map(math.isfinite, (self.value, *self.rounds, *ends))), "numbers must be finite; use null for none")


Cell = str | int | float | bool | Measured | None


@dataclass(frozen=True)
class Column:
    """A column, and which direction is better: benchmarks.compare judges by it."""

    name: str
    unit: str = ""  # ms, %, MB; empty for a count or text
    better: Better = "none"
    key: bool = False  # the key columns together tell one row from all others
    digits: int | None = None  # decimals on the page; None: four significant digits

    def __post_init__(self) -> None:
        require(bool(self.name) and not set(self.name) & set(",|=\"'"), f"column {self.name!r}: an invalid name")
        require(not (self.key and self.better != "none"), f"column {self.name}: a key has no better or worse")
        require(self.digits is None or 0 <= self.digits <= 9, f"column {self.name}: expected 0 to 9 digits")


def columns(text: str) -> tuple[Column, ...]:
    """Columns of "name, unit < .digits; ...": `*` marks a key, `<` that lower is better, `>` that higher is."""
    better: dict[str | None, Better] = {"<": "lower", ">": "higher", None: "none"}
    found = [match for part in text.split(";") if (match := HEADING.fullmatch(part.strip()))]
    return tuple(Column(m[1], m[3] or "", better[m[4]], bool(m[2]), int(m[5]) if m[5] else None) for m in found)


@dataclass(frozen=True)
class Table:
    """Rows under columns; a cell is text, a number, a truth value, Measured, or None."""

    name: str  # for markers and benchmarks.compare
    title: str
    about: str  # how to read it, in a sentence or two
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]

    @classmethod
    def of(cls, name: str, title: str, about: str, heads: str, rows: Iterable[Mapping[str, Cell]]) -> "Table":
        """A table of rows by column name; absent cells are None. `heads` as for `columns`."""
        rows, names = list(rows), [column.name for column in columns(heads)]
        assert all(set(row) <= set(names) for row in rows), f"{name}: a row has cells without a column"
        return cls(name, title, about, columns(heads), tuple(tuple(row.get(key) for key in names) for row in rows))

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"[a-z][a-z0-9-]*", self.name)), f"table {self.name!r}: an invalid name")
        names = [column.name for column in self.columns]
        require(bool(names) and len(set(names)) == len(names), f"table {self.name}: column names must differ")
        require(all(len(row) == len(names) for row in self.rows), f"table {self.name}: one cell a column is needed")
        rows = tuple(tuple(self._cell(*pair) for pair in zip(self.columns, row, strict=True)) for row in self.rows)
        object.__setattr__(self, "rows", rows)  # JSON objects are Measured now
        keys = [key for row in rows if (key := self.key(row))]
        require(len(set(keys)) == len(keys), f"table {self.name}: two rows have the same key")

    def _cell(self, column: Column, cell: Any) -> Cell:
        where = f"{self.name}: {column.name}"
        cell = codec.build(Measured, cell, where) if isinstance(cell, dict) else cell
        number = isinstance(cell, Measured | int | float) and not isinstance(cell, bool)
        require(isinstance(cell, float | int | str | Measured) or cell is None, f"{where}: {cell!r} is not a value")
        require(not isinstance(cell, float) or math.isfinite(cell), f"{where} is {cell}; use null for none")
        require(column.better == "none" or number or cell is None, f"{where} is {cell!r}; expected a number")
        require(not column.key or isinstance(cell, str | int), f"{where} is {cell!r}; expected text or a whole number")
        return cell

    def key(self, row: Sequence[Cell]) -> tuple[Cell, ...]:
        """The cells that identify this row."""
        return tuple(cell for column, cell in zip(self.columns, row, strict=True) if column.key)

    def without_empty(self) -> "Table":
        """The table without columns that are None in every row."""
        filled = [n for n in range(len(self.columns)) if not self.rows or any(row[n] is not None for row in self.rows)]
        rows = tuple(tuple(row[n] for n in filled) for row in self.rows)
        return replace(self, columns=tuple(self.columns[n] for n in filled), rows=rows)

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
    kind: str  # latency, accuracy, stream ...: reports of one kind can be compared
    title: str
    command: str  # without paths of the machine
    created: str  # UTC
    shrike: str  # version
    machine: dict[str, Any]  # benchmarks.host.describe()
    conditions: dict[str, Any]  # settings of this run
    tables: tuple[Table, ...]
    notes: tuple[str, ...]  # caveats
    plots: tuple[Plot, ...]

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"[a-z][a-z-]*", self.kind)), f"kind {self.kind!r}: an invalid name")
        require(len({table.name for table in self.tables}) == len(self.tables), "two tables have the same name")
        known = re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", self.created)
        require(bool(known), f"created is {self.created!r}; expected a time as 2025-01-31T12:00:00Z")

    def table(self, name: str) -> Table:
        tables = {table.name: table for table in self.tables}
        require(name in tables, f"table {name!r}: not in this report; it has {', '.join(tables)}")
        return tables[name]


def read_report(folder: Path) -> Report:
    """The report in this folder; a ShrikeError where it is missing, too large, damaged or of another version."""
    path = folder / NAME if folder.is_dir() else folder
    require(path.is_file(), f"{folder}: expected a report, a folder with {NAME} as --out writes it{nearby(folder)}")
    require(path.stat().st_size <= LARGEST_REPORT, f"{path}: expected a report of at most {LARGEST_REPORT >> 20} MiB")
    try:
        values = codec.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise ShrikeError(f"{path} cannot be read: {error.strerror}") from error
    version = values.get("version")
    known = version is not True and version == VERSION
    require(known, f"{path}: report version {version!r}, expected {VERSION}; read it with the Shrike that wrote it")
    return codec.build(Report, values, str(path))


def as_json(report: Report) -> str:
    """The report as JSON; a value that fits on one line, as a table's row, stays on one."""

    def lines(value: Any, indent: str) -> str:
        flat = json.dumps(value, ensure_ascii=False, allow_nan=False)
        numbers = isinstance(value, list | tuple) and all(isinstance(item, int | float) for item in value)  # rounds
        if len(indent) + len(flat) <= LONGEST_LINE or not isinstance(value, dict | list | tuple) or numbers:
            return flat
        deeper = f"{indent} "
        parts = [lines(item, deeper) for item in (value.values() if isinstance(value, dict) else value)]
        if isinstance(value, dict):
            parts = [f"{json.dumps(name, ensure_ascii=False)}: {part}" for name, part in zip(value, parts, strict=True)]
        return flat[0] + f"\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}" + flat[-1]

    return lines(asdict(report), "") + "\n"  # conditions in their own order
