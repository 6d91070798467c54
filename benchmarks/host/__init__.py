"""The machine in every benchmark report: what it is, how it is set up, and what a run did to it.

    from benchmarks import host

    facts = host.describe()                    # JSON can hold it; a missing value says why it is missing
    with host.Watch(idle_s=5) as watch:
        work()
    rows = host.rows(facts) + watch.rows()     # a Markdown table's rows; host.table(rows) adds the head
    joules = watch.energy_per(1000)            # or "not measured, because ..."

Everything is read from files and programs below one root (benchmarks.host.machine), so recorded trees can be
described too. No host name, no user name, no path of a user. docs/machine.md says where each value comes from.
"""

import time
from pathlib import Path
from typing import Any

from benchmarks.host import cpu, gpu, jetson, system, thermal
from benchmarks.host.machine import Machine, NotMeasured, known
from benchmarks.host.power import find_power
from benchmarks.host.report import markdown, rows, table, watch_rows
from benchmarks.host.watch import Watch

__all__ = ["Machine", "Watch", "describe", "known", "markdown", "rows", "table", "watch_rows"]

VERSION = 1  # of the description's form


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The same keys on every machine; where a value is not known stands "not measured, because ..."."""
    machine = Machine(root)
    return {
        "version": VERSION,
        "cpu": cpu.describe(machine),
        "memory": system.memory(machine),
        "jetson": jetson.describe(machine),
        "gpu": gpu.describe(machine),
        "system": system.describe(machine),
        "packages": system.packages(machine),
        "temperatures_c": thermal.temperatures(machine),
        "throttling": thermal.throttling(machine),
        "power": _power(machine),
    }


def _power(machine: Machine) -> dict[str, Any]:
    """Where watts would come from, and what flows at this moment."""
    try:
        source = find_power(machine)
        try:
            time.sleep(0.1)  # s: an energy counter needs a while to count
            watts = source.read().watts
        finally:
            source.end()
    except NotMeasured as reason:
        return dict.fromkeys(("source", "scope", "rails_watts"), str(reason))
    return {
        "source": source.name,
        "scope": source.scope,
        "rails_watts": {name: round(value, 3) for name, value in watts.items()},
    }
