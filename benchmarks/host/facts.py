"""Facts of a machine from /proc, /sys and psutil, and the state that runs change."""

import os
import platform
import re
from collections import Counter
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

# Vector width, half precision, INT8 dot products and matrix units decide the speed of a small network.
WANTED = ("avx", "avx2", "f16c", "fma", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512_vnni", "avx512_bf16",
          "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16",
          "sve", "sve2", "sme")  # fmt: skip
ARM_PARTS = {  # (implementer, part): names of util-linux' lscpu
    ("0x41", "0xd03"): "Cortex-A53", ("0x41", "0xd07"): "Cortex-A57", ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76", ("0x41", "0xd0c"): "Neoverse-N1", ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd42"): "Cortex-A78AE", ("0x41", "0xd49"): "Neoverse-N2", ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd83"): "Neoverse-V3AE", ("0x4e", "0x003"): "NVIDIA Denver 2", ("0x4e", "0x004"): "NVIDIA Carmel",
}  # fmt: skip
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")  # of processors; psutil's names
COLDEST = -40.0  # degrees Celsius: a sensor that is switched off reads -256
PACKAGES = ("numpy", "onnxruntime", "onnxruntime-gpu", "torch", "tensorrt", "tensorrt_rtx", "psutil", "jetson-stats")


def read(path: Path) -> str:
    """A file of /proc or /sys without white space and zero bytes at its end; "" where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip(" \t\r\n\0")
    except (OSError, TypeError):  # a sleeping sensor's EAGAIN is a TypeError in Python's files
        return ""


def number(path: Path) -> int | None:
    text = read(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def processor(root: Path = Path("/")) -> dict[str, Any]:
    cpuinfo, clocks = read(root / "proc/cpuinfo"), root / "sys/devices/system/cpu/cpufreq"
    limits = [read(folder / "cpu.max").split() for folder in _cgroups(root)]  # "max 100000" or "150000 100000", in us
    quotas = [int(limit[0]) / int(limit[1]) for limit in limits if len(limit) == 2 and limit[0].isdecimal()]
    facts: dict[str, Any] = {
        "model": model(cpuinfo), "architecture": platform.machine(), "instruction_sets": instruction_sets(cpuinfo),
        "physical_cores": None, "logical_cores": os.cpu_count(),
        "allowed_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota_cores": round(min(quotas), 2) if quotas else None,
        "governor": ", ".join(sorted({read(path) for path in clocks.glob("policy*/scaling_governor")})) or None,
    }  # fmt: skip
    for name in ("scaling_cur_freq", "scaling_min_freq", "scaling_max_freq", "cpuinfo_max_freq"):
        khz = [number(path) for path in sorted(clocks.glob(f"policy*/{name}"))]  # none in most virtual machines
        facts[name.replace("_freq", "_mhz")] = [value // 1000 for value in khz if value is not None] or None
    with suppress(ImportError):
        import psutil

        facts["physical_cores"] = psutil.cpu_count(logical=False)
    return facts


def model(cpuinfo: str) -> str | None:
    """The model's name on x86; on ARM the name of each kind of core and how many there are."""
    makers, parts = (re.findall(rf"^CPU {name}\s*: (0x[0-9a-f]+)$", cpuinfo, re.M) for name in ("implementer", "part"))
    if makers and len(makers) == len(parts):
        cores, unknown = Counter(zip(makers, parts, strict=True)), "ARM core {1} of maker {0}"
        return " + ".join(f"{count} x {ARM_PARTS.get(core, unknown.format(*core))}" for core, count in cores.items())
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.M)
    return " ".join(found[1].split()) if found else None


def instruction_sets(cpuinfo: str) -> list[str]:
    """Those that every core has: the scheduler may move a process to any of them."""
    lines = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*: (.*)$", cpuinfo, re.M)]
    return [name for name in WANTED if lines and name in set.intersection(*lines)]


def system(root: Path = Path("/")) -> dict[str, Any]:
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
    limits = [number(folder / "memory.max") for folder in _cgroups(root)]
    smallest = min((limit >> 20 for limit in limits if limit is not None), default=None)
    return {"total_mib": _meminfo(root, "MemTotal"), "limit_mib": smallest}


def state(root: Path = Path("/")) -> dict[str, Any]:
    """Facts that a run can change. Throttling events are counted since the start: over-current of a Jetson (oc1 to
    oc3), thermal of an Intel processor; active are a Jetson's cooling devices, as cpu-throttle-alert."""
    counters = sorted(root.glob("sys/class/hwmon/hwmon*/oc*_event_cnt"))
    events = {path.name.removesuffix("_event_cnt"): number(path) or 0 for path in counters}
    cores = list(root.glob("sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"))
    events |= {"core thermal": sum(number(path) or 0 for path in cores)} if cores else {}
    kinds = {device: read(device / "type") for device in sorted(root.glob("sys/class/thermal/cooling_device*"))}
    active = [kind for d, kind in kinds.items() if re.search("throttle|hot-surface", kind) and number(d / "cur_state")]
    return {
        "load_average": [round(value, 2) for value in os.getloadavg()],
        "memory_available_mib": _meminfo(root, "MemAvailable"),
        "temperatures_c": temperatures(root),
        "throttling": {"events": events, "active": active},
    }


def temperatures(root: Path = Path("/")) -> dict[str, float]:
    """Degrees Celsius of every thermal zone, and of a PC's processor by psutil."""
    found = {}
    for zone in sorted(root.glob("sys/class/thermal/thermal_zone*")):
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


def _cgroups(root: Path) -> list[Path]:
    """This process's cgroup folders (version 2) from the innermost to the outermost; every limit of them applies."""
    found = re.search(r"^0::/(.*)$", read(root / "proc/self/cgroup"), re.M)
    inner = Path(found[1] if found else "")
    return [root / "sys/fs/cgroup" / part for part in dict.fromkeys((inner, *inner.parents))]


def _meminfo(root: Path, name: str) -> int | None:
    found = re.search(rf"^{name}:\s*(\d+) kB", read(root / "proc/meminfo"), re.M)
    return int(found[1]) // 1024 if found else None
