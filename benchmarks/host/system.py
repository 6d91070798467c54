"""The system around the processor: board, memory, kernel, what is installed, what else runs, what it runs in.

Nothing that names a person or a machine: /proc/version (who built the kernel), host name and serial numbers are
never read.
"""

import platform
import re
from importlib import metadata
from typing import Any

from benchmarks.host.cpu import cgroups
from benchmarks.host.machine import Machine, NotMeasured, fact, known
from runtime.engines.jetpack import memory_available

NO_LIMIT = 1 << 60  # bytes: above it, the first version of cgroups means none
PACKAGES = {  # distributions that may bring it
    "numpy": ("numpy",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    "torch": ("torch",),
    "tensorrt": ("tensorrt", "tensorrt-cu12", "tensorrt-cu13", "tensorrt-cu11"),
}


def describe(machine: Machine) -> dict[str, Any]:
    return {
        "board": fact(board, machine),
        "kernel": fact(machine.text, "proc/sys/kernel/osrelease"),
        "os": fact(operating_system, machine),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "runs_in": fact(runs_in, machine),
        "load_average": fact(load, machine),
    }


def packages(machine: Machine) -> dict[str, str]:
    """Versions of what computes, from the packages' own records: nothing is imported."""
    return {name: fact(version, machine, name) for name in PACKAGES}


def memory(machine: Machine) -> dict[str, Any]:
    return {
        "total_mib": fact(memory_total, machine),
        "available_mib": fact(available, machine),
        "limit_mib": fact(memory_limit, machine),
    }


def board(machine: Machine) -> str:
    """What the device tree (ARM boards) or the firmware (PCs) calls this machine."""
    for path in ("proc/device-tree/model", "sys/firmware/devicetree/base/model"):
        if machine.has(path):
            return machine.text(path)
    names = [fact(machine.text, f"sys/class/dmi/id/{name}") for name in ("sys_vendor", "product_name")]
    if not any(map(known, names)):
        raise NotMeasured("neither a device tree nor the firmware names it")
    return " ".join(filter(known, names))


def operating_system(machine: Machine) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', machine.text("etc/os-release"), re.MULTILINE)
    if not found:
        raise NotMeasured("/etc/os-release has no PRETTY_NAME")
    return found[1]


def runs_in(machine: Machine) -> str:
    """Hints, no proof: some virtual machines and containers leave no trace."""
    found = []
    if "microsoft" in fact(machine.text, "proc/sys/kernel/osrelease").lower():
        found.append("Windows Subsystem for Linux")
    elif re.search(r"^flags\s*:.*\bhypervisor\b", fact(machine.text, "proc/cpuinfo"), re.MULTILINE) or machine.has(
        "proc/device-tree/hypervisor"
    ):
        found.append("virtual machine")
    groups = fact(machine.text, "proc/self/cgroup") + fact(machine.text, "proc/1/cgroup")
    if machine.has("run/.containerenv"):
        found.append("container (podman)")
    elif machine.has(".dockerenv"):
        found.append("container (docker)")
    elif kind := re.search(r"docker|containerd|kubepods|lxc|podman", groups):
        found.append(f"container ({kind[0]})")
    return ", ".join(found) or "no sign of a virtual machine or a container"


def load(machine: Machine) -> list[float]:
    """Over 1, 5 and 15 minutes: programs that ran or waited for a core or a disk."""
    fields = machine.text("proc/loadavg").split()
    try:
        return [float(value) for value in fields[:3]]
    except ValueError as error:
        raise NotMeasured("/proc/loadavg holds no numbers") from error


def memory_total(machine: Machine) -> int:
    found = re.search(r"^MemTotal:\s*(\d+) kB", machine.text("proc/meminfo"), re.MULTILINE)
    if not found:
        raise NotMeasured("/proc/meminfo has no MemTotal")
    return int(found[1]) // 1024


def available(machine: Machine) -> int:
    found = memory_available(machine.root / "proc/meminfo")
    if found is None:
        raise NotMeasured("/proc/meminfo has no MemAvailable")
    return found


def memory_limit(machine: Machine) -> int | str:
    """What a container's limit leaves to this process and its neighbours in there."""
    found = []
    for folder in cgroups(machine, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = fact(machine.text, f"{folder}/{name}")
            if limit.isdecimal() and int(limit) < NO_LIMIT:
                found.append(int(limit) >> 20)
    return min(found) if found else "no limit"


def version(machine: Machine, name: str) -> str:
    found = []
    for distribution in PACKAGES[name]:
        try:
            found.append(f"{metadata.version(distribution)} ({distribution})".removesuffix(f" ({name})"))
        except metadata.PackageNotFoundError:
            continue
    if not found and name == "tensorrt":  # JetPack's comes from apt
        found = [library for library in [debian_package(machine, r"libnvinfer\d+")] if library]
    if not found:
        raise NotMeasured(f"{name} is not installed for this Python")
    return ", ".join(found)


def debian_package(machine: Machine, name: str) -> str | None:
    """The version of an installed Debian package whose name fits; None where there is none."""
    for entry in fact(machine.text, "var/lib/dpkg/status").split("\n\n"):
        if re.search(rf"^Package: {name}$", entry, re.MULTILINE) and "\nStatus: install ok installed" in entry:
            found = re.search(r"^Version: (\S+)$", entry, re.MULTILINE)
            return found[1] if found else None
    return None
