"""The machine of a benchmark: its facts, its setup, and its state before and after a run.

    facts = host.describe()                      # JSON; unknown values are None
    with host.Watch(idle_s=3.0) as watch:
        work()
    facts["run"] = watch.report()

No host name, user name, serial number or path is read. docs/machine.md lists every fact with its source.
"""

from pathlib import Path
from typing import Any

from benchmarks.host import accelerator, facts
from benchmarks.host.watch import Watch as Watch

VERSION = 2  # of the description: version 1 had sentences in the place of missing values
IDENTITY = ("system board", "cpu model", "cpu allowed_cores", "cpu quota_cores", "cpu governor", "gpu name",
            "gpu power_limit", "jetson power_mode", "jetson clocks_pinned")  # fmt: skip


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The same keys on every machine. `root`: a tree of /proc and /sys files, for tests."""
    return {
        "version": VERSION, "cpu": facts.processor(root), "memory": facts.memory(root),
        "jetson": accelerator.jetson(root), "gpu": accelerator.nvidia(root), "system": facts.system(root),
        "packages": facts.packages(), **facts.state(root),
    }  # fmt: skip


def identity(machine: dict[str, Any]) -> dict[str, Any]:
    """Facts that must be equal for times to be comparable; of both versions of the description."""
    found = {name: (machine.get(name.split()[0]) or {}).get(name.split()[1]) for name in IDENTITY}
    absent = ("not measured", "no limit")  # in version 1
    return {name: None if isinstance(v, str) and v.startswith(absent) else v for name, v in found.items()}
