"""The processor: model, instruction sets, the share of it that this process may use, governor and clocks.

describe()["instruction_sets"]      # ["avx", "avx2", "fma", "avx512f", "avx512_vnni"]
"""

import os
import platform
import re
from collections import Counter
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


def describe(root: Path = Path("/")) -> dict[str, Any]:
    cpuinfo, clocks = read(root / "proc/cpuinfo"), root / "sys/devices/system/cpu/cpufreq"
    governors = {read(path) for path in clocks.glob("policy*/scaling_governor")}

    def mhz(name: str) -> list[int] | None:
        """Of every group of cores that shares a clock; None in most virtual machines."""
        found = [number(path) for path in sorted(clocks.glob(f"policy*/{name}"))]
        return [khz // 1000 for khz in found if khz is not None] or None

    return {
        "model": model(cpuinfo),
        "architecture": platform.machine(),
        "instruction_sets": instruction_sets(cpuinfo),
        "physical_cores": _physical_cores(),
        "logical_cores": os.cpu_count(),
        "allowed_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "quota_cores": quota_cores(root),
        "governor": ", ".join(sorted(governors)) or None,
        "current_mhz": mhz("scaling_cur_freq"),
        "min_mhz": mhz("scaling_min_freq"),
        "max_mhz": mhz("scaling_max_freq"),
        "hardware_max_mhz": mhz("cpuinfo_max_freq"),
    }


def read(path: Path) -> str:
    """A file of /proc or /sys without white space and zero bytes at its end; "" where it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip(" \t\r\n\0")
    except (OSError, TypeError):  # a sleeping sensor's EAGAIN is a TypeError in Python's files
        return ""


def number(path: Path) -> int | None:
    text = read(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def model(cpuinfo: str) -> str | None:
    """The model's name on x86; on ARM the name of each kind of core and how many there are."""
    makers, parts = (re.findall(rf"^CPU {name}\s*: (0x[0-9a-f]+)$", cpuinfo, re.M) for name in ("implementer", "part"))
    if makers and len(makers) == len(parts):
        cores = Counter(zip(makers, parts, strict=True))
        unknown = "ARM core {1} of maker {0}"
        return " + ".join(f"{count} x {ARM_PARTS.get(core, unknown.format(*core))}" for core, count in cores.items())
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.M)
    return " ".join(found[1].split()) if found else None


def instruction_sets(cpuinfo: str) -> list[str]:
    """Those that every core has: the scheduler may move a process to any of them."""
    lines = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*: (.*)$", cpuinfo, re.M)]
    return [name for name in WANTED if lines and name in set.intersection(*lines)]


def quota_cores(root: Path) -> float | None:
    """Processor time per second that a container's limit allows, in cores; None: no limit."""
    limits = [read(folder / "cpu.max").split() for folder in cgroups(root)]  # "max 100000" or "150000 100000", in us
    found = [int(limit[0]) / int(limit[1]) for limit in limits if len(limit) == 2 and limit[0].isdecimal()]
    return round(min(found), 2) if found else None


def cgroups(root: Path) -> list[Path]:
    """This process's cgroup folders (version 2) from the innermost to the outermost; every limit of them applies."""
    found = re.search(r"^0::/(.*)$", read(root / "proc/self/cgroup"), re.M)
    inner = Path(found[1] if found else "")
    return [root / "sys/fs/cgroup" / part for part in dict.fromkeys((inner, *inner.parents))]


def _physical_cores() -> int | None:
    try:
        import psutil
    except ImportError:
        return None
    cores: int | None = psutil.cpu_count(logical=False)
    return cores
