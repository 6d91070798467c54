"""What this machine is and how it is set up, for a bug report or beside a number.

    python -m benchmarks.host              # Markdown
    python -m benchmarks.host --short      # only the rows that reports carry
    python -m benchmarks.host --json

It names neither the machine nor its user. A value that is missing says why.
"""

import json
from dataclasses import dataclass

from runtime.support.command import parse, run


@dataclass(frozen=True)
class Options:
    """Describe this machine."""

    json: bool = False
    """Results as JSON on stdout, instead of Markdown."""
    short: bool = False
    """Only what a benchmark's report says about the machine."""


def main() -> None:
    options = parse(Options, "benchmarks.host", __doc__)
    from benchmarks import host

    facts = host.describe()
    if options.json:
        print(json.dumps(facts, indent=2, ensure_ascii=False))
    else:
        print(host.table(host.rows(facts)) if options.short else host.markdown(facts))


if __name__ == "__main__":
    run(main)
