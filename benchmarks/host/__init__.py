"""The machine of a benchmark: what it is, how it is set up, and what a run did to it.

    from benchmarks import host

    facts = host.describe()                      # JSON; what cannot be read is None
    with host.Watch(idle_s=3.0) as watch:
        work()
    facts["run"] = watch.report()                # load, temperatures, throttling and energy

psutil, nvidia-ml-py and jetson-stats supply the facts where they are installed, /proc and /sys the rest. No host name,
user name, serial number or path is read. docs/machine.md lists every fact with its source.
"""

from pathlib import Path
from typing import Any

from benchmarks.host import accelerator, processor, system
from benchmarks.host.watch import Watch

__all__ = ["Watch", "describe", "identity"]

VERSION = 2  # of the description: version 1 had sentences in the place of missing values


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The same keys on every machine. `root`: a tree of /proc and /sys files, for tests."""
    return {
        "version": VERSION,
        "cpu": processor.describe(root),
        "memory": system.memory(root),
        "jetson": accelerator.jetson(root),
        "gpu": accelerator.nvidia(root),
        "system": system.describe(root),
        "packages": system.packages(),
        **system.state(root),
    }


def identity(machine: dict[str, Any]) -> dict[str, Any]:
    """Facts that must be equal before two times are comparable; both versions of the description."""
    names = [("system", "board"), ("cpu", "model"), ("cpu", "allowed_cores"), ("cpu", "quota_cores"),
             ("cpu", "governor"), ("gpu", "name"), ("gpu", "power_limit"), ("jetson", "power_mode"),
             ("jetson", "clocks_pinned")]  # fmt: skip
    found = {f"{section}, {name}": (machine.get(section) or {}).get(name) for section, name in names}
    absent = ("not measured", "no limit")  # version 1
    return {name: None if isinstance(v, str) and v.startswith(absent) else v for name, v in found.items()}
