"""Memory, operating system, packages, and the state that changes: load, temperatures, throttling.

state()["throttling"]      # {"events": {"oc1": 0}, "active": []}
"""

import os
import platform
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.host.processor import cgroups, number, read

SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # of processors; psutil's names
COLDEST = -40.0  # degrees Celsius: a sensor that is switched off reads -256
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt", "tensorrt_rtx", "psutil", "jetson-stats")


def describe(root: Path = Path("/")) -> dict[str, Any]:
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', read(root / "etc/os-release"), re.M)
    firmware = [read(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return {
        "board": read(root / "proc/device-tree/model") or " ".join(filter(None, firmware)) or None,
        "kernel": read(root / "proc/sys/kernel/osrelease") or None,
        "os": name[1] if name else None,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "virtual": re.search(r"^flags\s*:.*\bhypervisor\b", read(root / "proc/cpuinfo"), re.M) is not None,
        "container": any((root / mark).exists() for mark in (".dockerenv", "run/.containerenv")),
    }


def packages() -> dict[str, str]:
    """Versions by the packages' own records; nothing is imported."""
    found = {}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def memory(root: Path = Path("/")) -> dict[str, int | None]:
    limits = [number(folder / "memory.max") for folder in cgroups(root)]
    return {
        "total_mib": _meminfo(root, "MemTotal"),
        "limit_mib": min((limit >> 20 for limit in limits if limit is not None), default=None),
    }


def state(root: Path = Path("/")) -> dict[str, Any]:
    """Facts that a run can change."""
    return {
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "memory_available_mib": _meminfo(root, "MemAvailable"),
        "temperatures_c": temperatures(root),
        "throttling": {"events": throttling_events(root), "active": throttling_now(root)},
    }


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius of every thermal zone, and of a PC's processor by psutil."""
    found = {}
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        name, value = read(zone / "type"), number(zone / "temp")
        # A Jetson's PMIC has no sensor: its driver always reads 100.
        if value is not None and value / 1000 > COLDEST and not (value == 100_000 and "PMIC" in name):
            found[name if name not in found else f"{name} {zone.name}"] = round(value / 1000, 1)
    with suppress(ImportError, AttributeError):
        import psutil

        readings = psutil.sensors_temperatures() if root == Path("/") else {}
        for chip in SENSORS:
            found |= {f"{chip} {item.label}".strip(): round(item.current, 1) for item in readings.get(chip, ())}
    return found


def throttling_events(root: Path) -> dict[str, int]:
    """Counted since the start: over-current of a Jetson (oc1 to oc3), thermal of an Intel processor."""
    counters = (root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")
    found = {path.name.removesuffix("_event_cnt"): number(path) or 0 for path in sorted(counters)}
    cores = root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count")
    counts = [number(path) or 0 for path in cores]
    return found | ({"core thermal": sum(counts)} if counts else {})


def throttling_now(root: Path) -> list[str]:
    """Cooling devices of a Jetson that throttle at this moment, as cpu-throttle-alert."""
    devices = sorted((root / "sys/class/thermal").glob("cooling_device*"))
    kinds = {device: read(device / "type") for device in devices}
    return [kind for d, kind in kinds.items() if re.search("throttle|hot-surface", kind) and number(d / "cur_state")]


def _meminfo(root: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", read(root / "proc/meminfo"), re.M)
    return int(found[1]) // 1024 if found else None
