"""Reports as Markdown: a table, a report's whole page, and the blocks by which a document quotes one.

    text = page(read_report(folder))
    filled = fill(Path("README.md"))                # filled.text, and which blocks were not as their reports say

A block in a document, whose report is looked for from the document's folder upwards:

    <!-- report: docs/reports/latency table=steps columns=model,form,median where=form=u8|float -->
    ... what stands here is replaced ...
    <!-- end report -->
"""

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import host
from benchmarks.schema import Cell, Column, Measured, Report, Table, read_report
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

PAGE = "report.md"
BLOCK = re.compile(r"(?ms)^<!-- report: *(?P<marker>[^\n]*?) *-->\n(?P<body>.*?)^<!-- end report -->$")
BEGIN, END = re.compile(r"(?m)^<!-- report:"), re.compile(r"(?m)^<!-- end report -->$")
SIGNIFICANT = 4  # digits of a number whose column does not say
WIDEST = 60  # characters that a cell is padded to: a longer one makes its own line ragged, not every line long


def show(cell: Cell, column: Column) -> str:
    """A cell as the page has it."""
    if isinstance(cell, Measured):
        value = number(cell.value, column.digits)
        if cell.low is None or cell.high is None or cell.low == cell.high:  # unknown, or known exactly
            return value
        return f"{value} ({number(cell.low, column.digits)} to {number(cell.high, column.digits)})"
    if cell is None:
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float) or (isinstance(cell, int) and not column.key):
        return number(cell, column.digits)
    return str(cell).replace("|", "\\|")


def number(value: float, digits: int | None = None) -> str:
    """With so many decimals, or with four significant digits."""
    if digits is not None:
        return f"{value:,.{digits}f}"
    if isinstance(value, int):
        return f"{value:,}"
    if value and not 1e-4 <= abs(value) < 1e15:
        return f"{value:.{SIGNIFICANT - 1}e}"
    whole = len(str(int(abs(value)))) if abs(value) >= 1 else 1
    if 0 < abs(value) < 1:
        return f"{value:.{SIGNIFICANT}g}"
    return f"{value:,.{max(0, SIGNIFICANT - whole)}f}"


def table_text(table: Table, columns: Sequence[str] = (), where: Mapping[str, Sequence[str]] | None = None) -> str:
    """A Markdown table whose columns line up in a terminal as well; `where` keeps rows whose cells read so."""
    known = {column.name: place for place, column in enumerate(table.columns)}
    if odd := [name for name in (*columns, *(where or {})) if name not in known]:
        raise ShrikeError(f"table {table.name} has no column {odd[0]!r}; there are {', '.join(known)}")
    places = [known[name] for name in columns] or list(range(len(table.columns)))
    chosen = [table.columns[place] for place in places]
    rows = [
        [show(row[place], table.columns[place]) for place in places]
        for row in table.rows
        if all(show(row[known[name]], table.columns[known[name]]) in wanted for name, wanted in (where or {}).items())
    ]
    headings = [f"{column.name}, {column.unit}" if column.unit else column.name for column in chosen]
    numeric = [
        not column.key and any(isinstance(row[place], int | float | Measured) for row in table.rows)
        for place, column in zip(places, chosen, strict=True)
    ]
    widths = [min(WIDEST, max(3, *map(len, cells))) for cells in zip(headings, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        placed = zip(cells, widths, numeric, strict=True)
        return (
            "| "
            + " | ".join(f"{cell:>{width}}" if right else f"{cell:<{width}}" for cell, width, right in placed)
            + " |"
        )

    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numeric, strict=True)]
    return "\n".join([line(headings), "| " + " | ".join(rule) + " |", *map(line, rows)])


def page(report: Report) -> str:
    """report.md: notes first, then tables and plots, then how and where it was measured."""
    parts = [f"# {report.title}", f"    {report.command}"]
    parts.append(f"{report.created}, Shrike {report.shrike}. The numbers, with their noise, stand in report.json.")
    if report.notes:
        parts.append("**Mind:**\n" + "\n".join(f"- {note}" for note in report.notes))
    for table in report.tables:
        parts += [f"## {table.title}", *filter(None, [table.about]), table_text(table)]
    parts += [f"![{plot.caption}]({plot.file})\n\n{plot.caption}" for plot in report.plots]
    if report.conditions:
        parts += ["## Conditions", facts(report.conditions)]
    if report.machine:
        parts += ["## Machine", machine_table(report.machine)]
    return "\n\n".join(parts) + "\n"


def machine_table(machine: Mapping[str, Any]) -> str:
    """What decides a number on this machine; all of it stands in report.json."""
    if machine.get("version") != host.VERSION:
        return facts(machine)
    return host.table([*host.rows(machine), *(host.watch_rows(machine["run"]) if "run" in machine else ())])


def facts(values: Mapping[str, Any]) -> str:
    """A table of names and values; what stands in tables within is named by its path."""
    rows = [(name, str(value).replace("|", "\\|")) for name, value in flat(values)]
    return "\n".join(["| what | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Names and values as text; tables within tables by the path that leads there."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{name}, ")
        elif isinstance(value, tuple | list):
            found.append((prefix + name, ", ".join(map(str, value)) or "-"))
        elif value is None or isinstance(value, bool):
            found.append((prefix + name, {None: "-", True: "yes", False: "no"}[value]))
        else:
            found.append((prefix + name, value if isinstance(value, str) else number(value)))
    return found


# ---- blocks in documents ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """Where a document quotes a report."""

    line: int
    marker: str  # what stands behind `report:`


@dataclass(frozen=True)
class Filled:
    """A document as its reports want it."""

    text: str
    blocks: tuple[Block, ...]
    differing: tuple[Block, ...]


def fill(path: Path, folders: Sequence[Path] = ()) -> Filled:
    """The document with its blocks rendered anew; `folders` limits that to blocks of these reports."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ShrikeError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}{nearby(path)}"
        ) from error
    matches = list(BLOCK.finditer(text))
    if any(BEGIN.search(found["body"]) for found in matches) or not (
        len(matches) == len(BEGIN.findall(text)) == len(END.findall(text))
    ):
        raise ShrikeError(
            f"{path}: every <!-- report: ... --> needs its <!-- end report -->, each on a line of its own"
        )
    blocks, differing, parts, done = [], [], [], 0
    for found in matches:
        block = Block(text.count("\n", 0, found.start()) + 1, found["marker"])
        try:
            body = _render(block.marker, path, folders)
        except ShrikeError as error:
            raise ShrikeError(f"{path}:{block.line}: {error}") from error
        if body is None:
            continue
        blocks.append(block)
        if body != found["body"]:
            differing.append(block)
        parts += [text[done : found.start("body")], body]
        done = found.end("body")
    return Filled("".join([*parts, text[done:]]), tuple(blocks), tuple(differing))


def _render(marker: str, path: Path, folders: Sequence[Path]) -> str | None:
    try:
        place, *words = shlex.split(marker)
    except ValueError:
        raise ShrikeError("a report's folder and words such as table=NAME were expected") from None
    folder = _find(place, path)
    if folders and folder.resolve() not in {wanted.resolve() for wanted in folders}:
        return None
    said: dict[str, str] = {}
    where: dict[str, list[str]] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name == "where" and "=" in value:
            column, _, wanted = value.partition("=")
            where[column] = wanted.split("|")
        elif name in ("table", "columns", "source") and value and name not in said:
            said[name] = value
        else:
            raise ShrikeError(f"{word!r}: table=, columns=, where=COLUMN=VALUE|VALUE or source=no was expected")
    report = read_report(folder)
    if "table" not in said:
        raise ShrikeError(f"table= is missing; there are {', '.join(table.name for table in report.tables)}")
    text = table_text(report.table(said["table"]), said["columns"].split(",") if "columns" in said else (), where)
    if said.get("source") == "no":
        return f"{text}\n"
    link = Path(os.path.relpath(folder / PAGE, path.parent)).as_posix()
    return f"{text}\n\n`{report.command}`, {report.created[:10]}: [the whole report]({link})\n"


def _find(place: str, path: Path) -> Path:
    for above in path.resolve().parents:
        if (above / place).is_dir():
            return above / place
    raise ShrikeError(f"no folder {place} beside this file or above it: write the report's path from there")
