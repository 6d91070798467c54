"""What decides a Jetson's speed: the power mode, the clocks, whether jetson_clocks holds them, the system's version.

    describe(Machine())["power_mode"]           # "MAXN_SUPER", or "not measured, because this is not a Jetson"
    parse_tegrastats(line).rails                # {"VDD_IN": 3.311, ...}, W

What only root may read (the memory clock) comes from jetson_clocks --show where that is allowed; nothing is changed.
"""

import re
from dataclasses import dataclass
from typing import Any

from benchmarks.host.cpu import policies
from benchmarks.host.machine import UNKNOWN, Machine, NotMeasured, fact
from benchmarks.host.system import debian_package
from runtime.engines.jetpack import jetpack, l4t

NO_JETSON = f"{UNKNOWN}this is not a Jetson"
RELEASE = "etc/nv_tegra_release"
GPUS = re.compile(r"gpu|gm20b|gp10b|gv11b|ga10b|gb10b")  # devfreq: 57000000.gpu, 17000000.gv11b, gpu-gpc-0
NO_GPU = re.compile(r"nvd|nvenc|nvdec|vic")  # Thor's gpu-nvd-0 is the video part
EMC = {  # the memory's clock: where the kernels put it, with its limits and whether it is held
    "sys/kernel/debug/bpmp/debug/clk/emc": ("rate", "min_rate", "max_rate", "mrq_rate_locked"),
    "sys/kernel/debug/clk/override.emc": ("clk_rate", "", "", "clk_state"),
}


@dataclass(frozen=True)
class Tegrastats:
    """One line of tegrastats."""

    ram: tuple[int, int] | None  # MB, used and total
    gpu_load: int | None  # %
    gpu_mhz: int | None
    emc_mhz: int | None  # shown to root only
    temperatures: dict[str, float]  # degrees Celsius
    rails: dict[str, float]  # W, now; the average since tegrastats began is left out


@dataclass(frozen=True)
class Clock:
    """Hz, as jetson_clocks --show and devfreq give it."""

    current: int
    minimum: int
    maximum: int

    @property
    def pinned(self) -> bool:
        return self.minimum == self.maximum == self.current

    def mhz(self) -> dict[str, int]:
        return {"current": self.current // 10**6, "min": self.minimum // 10**6, "max": self.maximum // 10**6}


@dataclass(frozen=True)
class ShownClocks:
    """The output of jetson_clocks --show."""

    cpus: dict[int, Clock]  # those that are online
    gpu: Clock | None
    emc: Clock | None
    emc_held: bool | None
    mode: str | None


def is_jetson(machine: Machine) -> bool:
    compatible = fact(machine.text, "proc/device-tree/compatible")
    return machine.has(RELEASE) or re.search(r"nvidia,tegra\d", compatible) is not None


def describe(machine: Machine) -> dict[str, Any]:
    def on_jetson(measure: Any) -> Any:
        return fact(measure, machine) if jetson else NO_JETSON

    jetson = is_jetson(machine)
    mode = on_jetson(lambda m: parse_nvpmodel(m.run("nvpmodel", "-q")))
    return {
        "l4t": on_jetson(release),
        "jetpack": on_jetson(jetpack_version),
        "power_mode": mode if isinstance(mode, str) else mode[0],
        "power_mode_id": mode if isinstance(mode, str) else mode[1],
        "gpu_mhz": on_jetson(lambda m: gpu_clock(m).mhz()),
        "gpu_governor": on_jetson(gpu_governor),
        "emc_mhz": on_jetson(emc_mhz),
        "clocks_pinned": on_jetson(clocks_pinned),
    }


def release(machine: Machine) -> str:
    version = l4t(machine.root / RELEASE)
    if version is None:
        raise NotMeasured(f"/{RELEASE} is not there or names no release, as in a container")
    return version


def jetpack_version(machine: Machine) -> str:
    """Exact where the package is installed, else the range that the system's version leaves."""
    if installed := debian_package(machine, "nvidia-jetpack"):
        return installed
    row = jetpack(release(machine))
    if row is None:
        raise NotMeasured("nvidia-jetpack is not installed and L4T is older than JetPack 5.1's")
    return f"{row[0]} (by L4T)"


def parse_nvpmodel(text: str) -> tuple[str, int | str]:
    """Name and number of the power mode, of "NV Power Mode: MAXN" and the line "0" (missing in JetPack 4's first)."""
    found = re.search(r"NV Power Mode:\s*(\S+)[^\n]*\n?\s*(\d+)?", text)
    if not found:
        raise NotMeasured("nvpmodel -q names no power mode")
    return found[1], int(found[2]) if found[2] else "not measured, because nvpmodel -q gives no number"


def gpu_folder(machine: Machine) -> str:
    for path in machine.paths("sys/class/devfreq/*"):
        name = path.rpartition("/")[2]
        if GPUS.search(name) and not NO_GPU.search(name):
            return path
    raise NotMeasured("/sys/class/devfreq has no GPU")


def gpu_clock(machine: Machine) -> Clock:
    folder = gpu_folder(machine)
    current, low, high = (machine.number(f"{folder}/{name}_freq") for name in ("cur", "min", "max"))
    return Clock(current, low, high)


def gpu_governor(machine: Machine) -> str:
    return machine.text(f"{gpu_folder(machine)}/governor")


def emc_mhz(machine: Machine) -> dict[str, Any]:
    """The memory's clock; "held" is what jetson_clocks does to it."""
    for folder, (rate, low, high, held) in EMC.items():
        if machine.has(folder):
            limits = {
                key: machine.number(f"{folder}/{name}") // 10**6
                for key, name in (("current", rate), ("min", low), ("max", high))
                if name
            }
            return limits | {"held": bool(machine.number(f"{folder}/{held}"))}
    try:
        shown = parse_clocks(machine.run("jetson_clocks", "--show"))
    except NotMeasured as reason:
        raise NotMeasured(f"only root may read it in /sys/kernel/debug, and {reason.args[0]}") from reason
    if shown.emc is None:
        raise NotMeasured("only root may read it in /sys/kernel/debug, and jetson_clocks --show leaves it out")
    return shown.emc.mhz() | {"held": bool(shown.emc_held)}


def clocks_pinned(machine: Machine) -> bool:
    """True where jetson_clocks, or another hand, holds the GPU and every core at one frequency."""
    low, high = policies(machine, "scaling_min_freq"), policies(machine, "scaling_max_freq")
    return low == high and gpu_clock(machine).pinned


def parse_clocks(text: str) -> ShownClocks:
    """JetPack 3 to 7 of jetson_clocks --show."""
    clock = r"MinFreq=(\d+) MaxFreq=(\d+) CurrentFreq=(\d+)"

    def hertz(found: re.Match[str], group: int, factor: int = 1) -> Clock:
        low, high, current = (int(found[place]) * factor for place in range(group, group + 3))
        return Clock(current, low, high)

    cpus = {
        int(found[1]): hertz(found, 3, 1000)  # kHz
        for found in re.finditer(rf"^\s*cpu(\d+):\s+(?:Online=(\d) )?.*?{clock}", text, re.MULTILINE)
        if found[2] != "0"
    }
    gpu = re.search(rf"^\s*(?:GPU|gpu-gpc-\d+) {clock}", text, re.MULTILINE)
    emc = re.search(rf"^\s*EMC {clock}(?: FreqOverride=(\d))?", text, re.MULTILINE)
    mode = re.search(r"^\s*NV Power Mode:\s*(\S+)", text, re.MULTILINE)
    held = bool(int(emc[4])) if emc and emc[4] else None
    return ShownClocks(
        cpus, hertz(gpu, 1) if gpu else None, hertz(emc, 1) if emc else None, held, mode[1] if mode else None
    )


def parse_tegrastats(line: str) -> Tegrastats:
    """A line of any JetPack: rails are "VDD_IN 3311mW/3311mW" since 5, "VDD_IN 4067/4067" before."""
    ram = re.search(r"\bRAM (\d+)/(\d+)MB", line)
    gpu = re.search(r"\bGR3D(?:_FREQ)? (\d+)%(?:@\[?(\d+))?", line)
    emc = re.search(r"\bEMC(?:_FREQ)? \d+%@(\d+)", line)
    temperatures = {name: float(value) for name, value in re.findall(r"(\w+)@(-?[\d.]+)C\b", line)}
    # Only a rail is a name, then two whole numbers around a slash that end there or in mW (Thor has a third, a peak):
    # "RAM 2448/3964MB" and "IRAM 0/252kB" do not end there.
    rails = re.findall(r"(?<!\S)([A-Za-z]\w*) +(\d+)(?:mW)?/\d+(?:mW)?(?:/\d+mW)?(?!\S)", line)
    return Tegrastats(
        (int(ram[1]), int(ram[2])) if ram else None,
        int(gpu[1]) if gpu else None,
        int(gpu[2]) if gpu and gpu[2] else None,
        int(emc[1]) if emc else None,
        temperatures,
        {name: int(milliwatts) / 1000 for name, milliwatts in rails},
    )
