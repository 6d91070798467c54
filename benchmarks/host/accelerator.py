"""A Jetson's power mode and clocks, and an NVIDIA GPU of a PC.

    jetson()["power_mode"]      # "MAXN_SUPER"; None on other machines
    nvidia()["name"]            # "NVIDIA H100 80GB HBM3"

jetson-stats (jtop) is asked first; where it is not installed or its service does not run, nvpmodel and sysfs answer.
nvidia-ml-py reads a PC's GPU. Nothing is changed.
"""

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.host.facts import number, read
from runtime.engines.jetpack import jetpack, l4t

RELEASE = "etc/nv_tegra_release"
GPUS = re.compile(r"gpu(?!-nvd)|gm20b|gp10b|gv11b|ga10b|gb10b")  # devfreq: 57000000.gpu, 17000000.gv11b, gpu-gpc-0
JETSON_KEYS = ("l4t", "jetpack", "power_mode", "power_mode_id", "gpu_mhz", "gpu_governor", "emc_mhz", "clocks_pinned")
BY_SYSFS = ("gpu_mhz", "gpu_governor", "clocks_pinned")
GPU_KEYS = ("count", "name", "driver", "memory_mib", "power_limit", "sm_mhz", "sm_max_mhz", "memory_mhz",
            "temperature_c", "throttle_reasons")  # fmt: skip


def is_jetson(root: Path) -> bool:
    return (root / RELEASE).exists() or "nvidia,tegra" in read(root / "proc/device-tree/compatible")


def jetson(root: Path = Path("/")) -> dict[str, Any]:
    """Every key is there; None where unknown, all None on other machines."""
    facts: dict[str, Any] = dict.fromkeys(JETSON_KEYS)
    if not is_jetson(root):
        return facts
    release = l4t(root / RELEASE)
    row = jetpack(release) if release else None
    facts |= {"l4t": release, "jetpack": row[0] if row else None, **_by_sysfs(root)}
    if root == Path("/"):
        with suppress(OSError, subprocess.SubprocessError):
            done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10)
            facts |= parse_nvpmodel(done.stdout)
        with suppress(Exception):  # jtop's own errors: no service, another version of it
            from jtop import jtop

            with jtop() as device:
                found = from_jtop(device)
            if facts["gpu_mhz"]:  # on Thor jtop mixes MHz and kHz; without a list of engines it reports fixed clocks
                found = {name: value for name, value in found.items() if name not in BY_SYSFS}
            facts |= found
    return facts


def from_jtop(device: Any) -> dict[str, Any]:
    """Power mode, clocks in MHz and whether jetson_clocks holds them, of a connected jtop."""

    def clock(kilohertz: Any) -> dict[str, int | None]:
        keys = (("current", "cur"), ("min", "min"), ("max", "max"))
        return {name: kilohertz[key] // 1000 if kilohertz.get(key) else None for name, key in keys}

    facts: dict[str, Any] = {}
    if device.nvpmodel is not None:
        facts |= {"power_mode": str(device.nvpmodel), "power_mode_id": device.nvpmodel.id}
    if device.jetson_clocks is not None:
        facts["clocks_pinned"] = bool(device.jetson_clocks)
    for gpu in list(device.gpu.values())[:1]:
        facts |= {"gpu_mhz": clock(gpu["freq"]), "gpu_governor": gpu["freq"].get("governor")}
    return facts | ({"emc_mhz": clock(device.memory["EMC"])} if device.memory.get("EMC") else {})


def _by_sysfs(root: Path) -> dict[str, Any]:
    """The GPU's clock, and whether all clocks are fixed."""
    for folder in sorted((root / "sys/class/devfreq").glob("*")):
        low, current, high = (number(folder / f"{name}_freq") for name in ("min", "cur", "max"))
        if GPUS.search(folder.name) and low and current and high:
            policies = root / "sys/devices/system/cpu/cpufreq"
            limits = [[number(path) for path in sorted(policies.glob(f"policy*/scaling_{end}_freq"))]
                      for end in ("min", "max")]  # fmt: skip
            mhz = {"current": current // 10**6, "min": low // 10**6, "max": high // 10**6}
            pinned = limits[0] == limits[1] and low == current == high
            return {"gpu_mhz": mhz, "gpu_governor": read(folder / "governor") or None, "clocks_pinned": pinned}
    return {}


def parse_nvpmodel(text: str) -> dict[str, Any]:
    """Name and number of the power mode, of "NV Power Mode: MAXN" and the next line "0"."""
    found = re.search(r"NV Power Mode:\s*(\S+)[^\n]*\n?\s*(\d+)?", text)
    return {"power_mode": found[1], "power_mode_id": int(found[2]) if found[2] else None} if found else {}


def nvidia(root: Path = Path("/")) -> dict[str, Any]:
    """The first GPU by nvidia-ml-py and the number of GPUs; all None without driver, package or GPU."""
    facts: dict[str, Any] = dict.fromkeys(GPU_KEYS)
    if root != Path("/") or is_jetson(root):  # a Jetson's GPU is described with its board
        return facts
    with suppress(ImportError):
        import pynvml

        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            facts |= from_nvml(pynvml)
            pynvml.nvmlShutdown()
    return facts


def from_nvml(nvml: Any) -> dict[str, Any]:
    """Facts of the first GPU; None for those that this GPU or driver does not report."""
    handle = nvml.nvmlDeviceGetHandleByIndex(0)

    def ask(name: str, *arguments: Any) -> Any:
        with suppress(nvml.NVMLError):
            return getattr(nvml, name)(*arguments)

    memory, limit = ask("nvmlDeviceGetMemoryInfo", handle), ask("nvmlDeviceGetEnforcedPowerLimit", handle)
    return {
        "count": ask("nvmlDeviceGetCount"),
        "name": ask("nvmlDeviceGetName", handle),
        "driver": ask("nvmlSystemGetDriverVersion"),
        "memory_mib": memory.total >> 20 if memory else None,
        "power_limit": f"{limit / 1000:.0f} W" if limit else None,
        "sm_mhz": ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_SM),
        "sm_max_mhz": ask("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM),
        "memory_mhz": ask("nvmlDeviceGetClockInfo", handle, nvml.NVML_CLOCK_MEM),
        "temperature_c": ask("nvmlDeviceGetTemperature", handle, nvml.NVML_TEMPERATURE_GPU),
        "throttle_reasons": ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle),
    }
