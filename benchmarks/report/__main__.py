"""Show reports, or quote their tables in Markdown files.

python -m benchmarks.report runs/reports/latency                                # report.md, on stdout
python -m benchmarks.report --into README.md docs/benchmarks.md                 # fill the files' marked blocks
python -m benchmarks.report docs/reports/latency --into README.md --check       # exit 3 where a block differs
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from runtime.support.command import FAILED, parse, run
from runtime.support.errors import ShrikeError


@dataclass(frozen=True)
class Options:
    """Show reports, or quote their tables in Markdown files."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Reports to show; with --into, fill only blocks of these reports (default: all blocks)."""
    into: tuple[Path, ...] = ()
    """Markdown files with blocks between <!-- report: FOLDER table=NAME --> and <!-- end report -->."""
    check: bool = False
    """Change nothing; list the blocks that differ from their reports and exit with 3 if there are any."""


def main() -> int:
    options = parse(Options, "benchmarks.report", __doc__)
    from benchmarks.report import read_report
    from benchmarks.report.markdown import fill, page
    from runtime.support.atomic import atomic_file
    from train.progress import say

    if not options.into:
        if not options.folders or options.check:
            raise ShrikeError("no FOLDERS and no --into: name reports to show, or Markdown files with --into")
        print("\n".join(page(read_report(folder)) for folder in options.folders), end="")
        return 0
    documents = {path: fill(path, options.folders) for path in options.into}
    for path, (text, differing) in documents.items():
        for block in differing:
            say(f"{path}:{block} " + ("differs from its report" if options.check else "filled"))
        if differing and not options.check:
            with atomic_file(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return FAILED if options.check and any(differing for _, differing in documents.values()) else 0


if __name__ == "__main__":
    run(main)
