"""Show the machine and its setup, for a bug report or beside a figure.

    python -m benchmarks.host              # a Markdown table
    python -m benchmarks.host --json

The output contains no host name, user name or serial number.
"""

import json
from dataclasses import dataclass

from runtime.support.command import parse, run


@dataclass(frozen=True)
class Options:
    """Describe this machine."""

    json: bool = False
    """Print JSON instead of a Markdown table."""
    short: bool = False
    """Omit facts that are unknown."""


def main() -> None:
    options = parse(Options, "benchmarks.host", __doc__)
    from benchmarks import host
    from benchmarks.report.markdown import facts, machine_table

    found, table = host.describe(), machine_table if options.short else facts
    print(json.dumps(found, indent=2) if options.json else table(found))


if __name__ == "__main__":
    run(main)
