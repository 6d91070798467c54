"""Reports of benchmarks: a folder with report.json, report.md and plots, which appears as a whole or not at all.

    def measure(folder: Path) -> Report:
        return new_report("latency", title, conditions, tables, notes, plots)      # the plots lie in `folder`

    produce(options, "latency", measure)
    rows = read_report(options.out).table("steps").records()

docs/reports.md describes the schema and the blocks by which a Markdown file quotes a table.
"""

import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Optional

from benchmarks.report.markdown import PAGE, page, table_text
from benchmarks.report.schema import NAME, VERSION, as_json
from benchmarks.report.schema import Cell as Cell
from benchmarks.report.schema import Column as Column
from benchmarks.report.schema import Measured as Measured
from benchmarks.report.schema import Plot as Plot
from benchmarks.report.schema import Report as Report
from benchmarks.report.schema import Table as Table
from benchmarks.report.schema import read_report as read_report
from runtime import __version__
from runtime.card.model_card import created_now
from runtime.card.schema import require
from runtime.support.atomic import atomic_folder

LONGEST_COMMAND = 1_000  # characters
BUSY = 0.5  # load average
WATCH_EVERY = 2.0  # s between readings of power: each takes a few ms of a core
COMMANDS = {"streams": "stream", "alarms": "stream"}  # by kind of report, where the names differ


def new_report(
    kind: str, title: str, conditions: Mapping[str, Any], tables: Sequence[Table], notes: Sequence[str] = (),
    plots: Sequence[Plot] = (), machine: Mapping[str, Any] = MappingProxyType({}),
) -> Report:  # fmt: skip
    """A report of this moment, this version and the running command."""
    line = command_line(f"benchmarks.{COMMANDS.get(kind, kind)}", sys.argv[1:])
    return Report(
        VERSION, kind, title, line, created_now(), __version__, dict(machine), dict(conditions),
        tuple(tables), tuple(notes), tuple(plots),
    )  # fmt: skip


def command_line(module: str, arguments: Sequence[str]) -> str:
    """The command without paths of this machine: an absolute path keeps what lies below here, or its last name."""

    def short(argument: str) -> str:
        option, equals, value = argument.rpartition("=")
        path = Path(value)
        if path.is_absolute() or value.startswith("~"):
            path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else Path(path.name)
            return f"{option}{equals}{path}"
        return argument

    line = shlex.join(["python", "-m", module, *map(short, arguments)])
    return line if len(line) <= LONGEST_COMMAND else f"{line[:LONGEST_COMMAND]} ..."


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Place of the report, for every command that writes one."""

    out: Optional[Path] = None  # noqa: UP045
    """Folder of the report; default: a new one under runs/reports."""
    overwrite: bool = False
    """Replace an existing report."""

    def check_least(self, **least: float) -> None:
        """Raise if an option is below its least value."""
        for name, limit in least.items():
            value = getattr(self, name)
            require(value >= limit, f"--{name.replace('_', '-')} {value}: expected {limit} or more")


def check_place(folder: Path, overwrite: bool = False) -> None:
    """Raise unless the report can go there; only a report is ever overwritten."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    writable = above == folder.absolute() or (above.is_dir() and os.access(above, os.W_OK))
    require(writable, f"--out {folder}: {above} cannot be written; choose another folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        require((folder / NAME).is_file(), f"--out {folder}: it exists and is not a report; choose a new folder")
        require(overwrite, f"--out {folder}: it holds a report; choose another folder, or replace it with --overwrite")


@contextmanager
def report_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary folder for plots, scores and `write_report`; on success it replaces `folder`."""
    check_place(folder, overwrite)
    with atomic_folder(folder) as temporary:
        yield temporary
        read_report(temporary)


def write_report(folder: Path, report: Report) -> None:
    """Write report.json and report.md beside the plots that the report lists."""
    assert all((folder / plot.file).is_file() for plot in report.plots), "a plot was not drawn"
    (folder / NAME).write_text(as_json(report), encoding="utf-8")
    (folder / PAGE).write_text(page(report), encoding="utf-8")


def produce(
    options: ReportOptions, kind: str, measure: Callable[[Path], Report], shown: Collection[str] = ()
) -> Report:
    """Write the report that `measure` returns, with the machine before and after; its plots are drawn in a folder.

    Tables go to stdout, by default all of them, notes and the report's place to stderr.
    """
    from benchmarks import host
    from train.progress import say

    out = options.out or Path(time.strftime(f"runs/reports/{kind}-%Y%m%d-%H%M%S"))
    with report_folder(out, options.overwrite) as folder:
        machine, load = host.describe(), os.getloadavg()[0]
        with host.Watch(idle_s=0.5, interval_s=WATCH_EVERY) as watch:
            report = measure(folder)
        busy = [f"load average {load:.1f} at the start: other work ran, compare ratios only"] * (load > BUSY)
        notes = tuple(dict.fromkeys((*busy, *report.notes)))
        report = replace(report, machine=machine | {"run": watch.report()}, notes=notes)
        write_report(folder, report)
    print("\n\n".join(table_text(table) for table in report.tables if not shown or table.name in shown))
    for note in report.notes:
        say(f"note: {note}")
    say(f"report: {out}/{PAGE}")
    return report
