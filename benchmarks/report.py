"""What every benchmark leaves behind: one folder with report.json, report.md for people, and its plots.

    python -m benchmarks.report runs/reports/latency                                # its page, on stdout
    python -m benchmarks.report --into README.md docs/benchmarks.md                 # fill the files' marked blocks
    python -m benchmarks.report docs/reports/latency --into README.md --check       # exit 3 where a block differs

In a program: `report_folder` gives a temporary folder, `write_report` fills it, and on success it gets its name. The
schema, and the markers that let a Markdown file quote a report, stand in docs/reports.md.
"""

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from benchmarks.markdown import PAGE, fill, page
from benchmarks.schema import NAME, VERSION, as_json
from benchmarks.schema import Cell as Cell  # all that a benchmark needs for its report comes from here
from benchmarks.schema import Column as Column
from benchmarks.schema import Measured as Measured
from benchmarks.schema import Plot as Plot
from benchmarks.schema import Report as Report
from benchmarks.schema import Table as Table
from benchmarks.schema import read_report as read_report
from runtime import __version__
from runtime.card.model_card import created_now
from runtime.support.atomic import atomic_file, atomic_folder
from runtime.support.command import FAILED, parse, run
from runtime.support.errors import ShrikeError

LONGEST_COMMAND = 1_000  # characters


def new_report(
    kind: str,
    title: str,
    machine: dict[str, Any],
    conditions: dict[str, Any],
    tables: Sequence[Table],
    notes: Sequence[str] = (),
    plots: Sequence[Plot] = (),
) -> Report:
    """Of this moment, this Shrike and the command that runs."""
    command = command_line(f"benchmarks.{kind}", sys.argv[1:])
    return Report(
        VERSION, kind, title, command, created_now(), __version__, machine, conditions,
        tuple(tables), tuple(notes), tuple(plots),
    )  # fmt: skip


def command_line(module: str, arguments: Sequence[str]) -> str:
    """How the command was called; of a path that begins at the root only what lies below here, or its last name."""

    def short(argument: str) -> str:
        option, equals, value = argument.rpartition("=")
        path = Path(value)
        if not (path.is_absolute() or value.startswith("~")):
            return argument
        here = path.is_relative_to(Path.cwd())
        return f"{option}{equals}{path.relative_to(Path.cwd()) if here else path.name}"

    line = shlex.join(["python", "-m", module, *map(short, arguments)])
    return line if len(line) <= LONGEST_COMMAND else f"{line[:LONGEST_COMMAND]} ..."


# ---- the folder ------------------------------------------------------------------------------------------------------


def check_place(folder: Path, overwrite: bool = False) -> None:
    """Before anything is measured: may the report go there? Only a report is ever overwritten."""
    above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if above != folder.absolute() and not (above.is_dir() and os.access(above, os.W_OK)):
        raise ShrikeError(f"--out {folder}: nothing can be written in {above}; name another place")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / NAME).is_file():
        raise ShrikeError(f"--out {folder} exists and is no report; give the name of a new folder")
    if not overwrite:
        raise ShrikeError(f"--out {folder} holds a report already; give another name, or replace it with --overwrite")


@contextmanager
def report_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder for plots, scores and `write_report`; it gets its name when all of that went well."""
    check_place(folder, overwrite)
    with atomic_folder(folder) as temporary:
        yield temporary
        read_report(temporary)  # what others could not read is not left behind


def write_report(folder: Path, report: Report) -> None:
    """report.json and report.md; the plots it names must be there already."""
    missing = [plot.file for plot in report.plots if not (folder / plot.file).is_file()]
    assert not missing, f"{missing} were not drawn"
    for name, content in ((NAME, as_json(report)), (PAGE, page(report))):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")


# ---- the command -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """Show reports, or quote their tables in Markdown files."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Reports to show; with --into only their blocks are looked at, none: all blocks."""
    into: tuple[Path, ...] = ()
    """Markdown files with blocks between <!-- report: FOLDER table=NAME --> and <!-- end report -->."""
    check: bool = False
    """Change nothing; name the blocks that differ from their reports, and exit with 3 if there are any."""


def main() -> int:
    options = parse(Options, "benchmarks.report", __doc__)
    from train.progress import say

    if not options.into:
        if not options.folders or options.check:
            raise ShrikeError("nothing to do: name folders of reports to show, or Markdown files with --into")
        print("\n".join(page(read_report(folder)) for folder in options.folders), end="")
        return 0
    stale = False
    for path in options.into:
        filled = fill(path, options.folders)
        for block in filled.differing:
            stale = True
            say(f"{path}:{block.line}: {block.marker} " + ("differs from its report" if options.check else "filled"))
        if filled.differing and not options.check:
            with atomic_file(path) as temporary:
                temporary.write_text(filled.text, encoding="utf-8")
        if not filled.blocks:
            say(f"{path} has no block" + (" of these reports" if options.folders else ""))
    return FAILED if stale and options.check else 0


if __name__ == "__main__":
    run(main)
