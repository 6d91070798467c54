"""Reports as Markdown: tables, the page report.md, and the blocks by which a document quotes a table.

<!-- report: docs/reports/latency table=steps columns=model,form,median where=form=u8|float -->
... this part is replaced; the folder is searched from the document's folder upwards ...
<!-- end report -->
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report.schema import Cell, Column, Measured, Report, Table, read_report
from runtime.card.schema import require
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

PAGE = "report.md"
BLOCK = re.compile(
    r"(?ms)(?P<begin>^<!-- report: *(?P<marker>[^\n]*?) *-->\n)(?P<body>.*?)(?P<end>^<!-- end report -->$)"
)
MARKER = re.compile(r"(?m)^<!-- report:|^<!-- end report -->$")
SIGNIFICANT = 4  # digits where a column names no decimals
WIDEST = 60  # characters that a cell is padded to; a longer one lengthens its own line only
UNKNOWN = "not measured"  # begins a missing value in machines of version 1


def show(cell: Cell, column: Column) -> str:
    """The text of a cell."""
    if isinstance(cell, Measured):
        value = number(cell.value, column.digits)
        if cell.low is None or cell.high is None or cell.low == cell.high:  # no noise, or none known
            return value
        return f"{value} ({number(cell.low, column.digits)} to {number(cell.high, column.digits)})"
    if cell is None or isinstance(cell, bool):
        return {None: "-", True: "yes", False: "no"}[cell]
    if isinstance(cell, float) or (isinstance(cell, int) and not column.key):
        return number(cell, column.digits)
    return str(cell).replace("|", "\\|")


def number(value: float, digits: int | None = None) -> str:
    """A number with so many decimals, or with four significant digits."""
    if digits is not None or isinstance(value, int):
        return f"{value:,.{digits or 0}f}"
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{SIGNIFICANT - 1}e}"
    if 0 < abs(value) < 1:
        return f"{value:.{SIGNIFICANT}g}"
    return f"{value:,.{max(0, SIGNIFICANT - len(str(int(abs(value)))))}f}"


def table_text(table: Table, columns: Sequence[str] = (), where: Mapping[str, Sequence[str]] | None = None) -> str:
    """A table of a report; `where` selects rows by the text of their cells."""
    where, known = where or {}, {column.name: place for place, column in enumerate(table.columns)}
    if odd := [name for name in (*columns, *where) if name not in known]:
        raise ShrikeError(f"table {table.name}: no column {odd[0]!r}; it has {', '.join(known)}")
    places = [known[name] for name in columns] or list(range(len(table.columns)))
    shown = [[show(*pair) for pair in zip(row, table.columns, strict=True)] for row in table.rows]
    rows = [row for row in shown if all(row[known[name]] in wanted for name, wanted in where.items())]
    chosen = [table.columns[place] for place in places]
    headings = [f"{column.name}, {column.unit}" if column.unit else column.name for column in chosen]
    numeric = [
        not column.key and any(isinstance(row[place], int | float | Measured) for row in table.rows)
        for place, column in zip(places, chosen, strict=True)
    ]
    return markdown_table(headings, [[row[place] for place in places] for row in rows], numeric)


def markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> str:
    """The one function that writes a table, aligned for terminals; `right`: columns that are aligned to the right."""
    right = right or [False] * len(headings)
    widths = [min(WIDEST, max(3, *map(len, cells))) for cells in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        columns = zip(cells, widths, right, strict=True)
        return "| " + " | ".join(f"{cell:{'>' if end else '<'}{width}}" for cell, width, end in columns) + " |"

    rule = ["-" * (width - 1) + ":" if end else "-" * width for width, end in zip(widths, right, strict=True)]
    return "\n".join([line(headings), "| " + " | ".join(rule) + " |", *map(line, rows)])


def page(report: Report) -> str:
    """report.md: notes, tables and plots, then how and where it was measured."""
    parts = [f"# {report.title}", f"    {report.command}"]
    parts.append(f"{report.created}, Shrike {report.shrike}. report.json holds the numbers with their noise.")
    if report.notes:
        parts.append("**Notes:**\n" + "\n".join(f"- {note}" for note in report.notes))
    for table in report.tables:
        parts += [f"## {table.title}", *filter(None, [table.about]), table_text(table)]
    parts += [f"![{plot.caption}]({plot.file})\n\n{plot.caption}" for plot in report.plots]
    if report.conditions:
        parts += ["## Conditions", facts(report.conditions)]
    if report.machine:
        parts += ["## Machine", machine_table(report.machine)]
    return "\n\n".join(parts) + "\n"


def machine_table(machine: Mapping[str, Any]) -> str:
    """The facts that are known; report.json lists the others as well."""
    return facts({name: value for name, value in flat(machine) if value != "-" and not value.startswith(UNKNOWN)})


def facts(values: Mapping[str, Any]) -> str:
    """A table of names and values; nested values are named by their path."""
    return markdown_table(["fact", "value"], [(name, value.replace("|", "\\|")) for name, value in flat(values)])


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Names and values as text; a nested value has the path of its names."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}, ")
        elif isinstance(value, tuple | list):
            found.append((prefix + name, ", ".join(map(str, value)) or "-"))
        else:
            found.append((prefix + name, value if isinstance(value, str) else show(value, Column("fact"))))
    return found


# ---- blocks in documents


def fill(path: Path, folders: Sequence[Path] = ()) -> tuple[str, list[str]]:
    """The document with its blocks rendered again, and "LINE: MARKER" of each block that differed.

    `folders` limits that to blocks of these reports.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ShrikeError(f"{path}: cannot be read: {reason}{nearby(path)}") from error
    kinds = [found[0][5] for found in MARKER.finditer(text)]  # r or e, of report or end
    if kinds != ["r", "e"] * (len(kinds) // 2):
        raise ShrikeError(f"{path}: an unpaired marker; every <!-- report: ... --> needs its own <!-- end report -->")
    differing = list[str]()

    def replaced(found: re.Match[str]) -> str:
        line = text.count("\n", 0, found.start()) + 1
        try:
            body = _render(found["marker"], path, folders)
        except ShrikeError as error:
            raise ShrikeError(f"{path}:{line}: {error}") from error
        if body is None or body == found["body"]:
            return found[0]
        differing.append(f"{line}: {found['marker']}")
        return found["begin"] + body + found["end"]

    return BLOCK.sub(replaced, text), differing


def _render(marker: str, path: Path, folders: Sequence[Path]) -> str | None:
    try:
        place, *words = shlex.split(marker)
    except ValueError:
        raise ShrikeError("expected a report's folder and words as table=NAME") from None
    folder = next((above / place for above in path.resolve().parents if (above / place).is_dir()), None)
    if folder is None:
        raise ShrikeError(f"folder {place}: not found beside this file or above it")
    if folders and folder.resolve() not in {wanted.resolve() for wanted in folders}:
        return None
    options: dict[str, str] = {}
    where: dict[str, list[str]] = {}
    for word in words:
        found = re.fullmatch(r"(table|columns|source)=(.+)|where=([^=]+)=(.*)", word)
        require(found is not None, f"{word!r}: expected table=, columns=, where=COLUMN=VALUE|VALUE or source=no")
        if found and found[1]:
            options[found[1]] = found[2]
        elif found:
            where[found[3]] = found[4].split("|")
    report = read_report(folder)
    columns = options["columns"].split(",") if "columns" in options else ()
    text = table_text(report.table(options.get("table", "")), columns, where)
    if options.get("source") == "no":
        return f"{text}\n"
    link = Path(os.path.relpath(folder / PAGE, path.parent)).as_posix()
    return f"{text}\n\n`{report.command}`, {report.created[:10]}: [the whole report]({link})\n"
