"""The processor: what it is, what it can, how much of it this process may use, and how fast it may run.

describe(Machine())["instruction_sets"]      # ["avx", "avx2", "fma", "avx512f", "avx512_vnni"]
"""

import platform
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from benchmarks.host.machine import Machine, NotMeasured, fact

CPUS = "sys/devices/system/cpu"
# What decides how fast a small network runs: vector width, half precision, INT8 dot products, matrix units.
VECTORS = ("avx", "avx2", "f16c", "fma", "avx_vnni", "avx_vnni_int8")
WIDE = ("avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16")
ARM = ("neon", "asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme")
WANTED = VECTORS + WIDE + ARM
ARM_PARTS = {  # (implementer, part): the names that util-linux' lscpu uses
    (0x41, 0xC07): "Cortex-A7",
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD04): "Cortex-A35",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD09): "Cortex-A73",
    (0x41, 0xD0A): "Cortex-A75",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse-N1",
    (0x41, 0xD0D): "Cortex-A77",
    (0x41, 0xD40): "Neoverse-V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD44): "Cortex-X1",
    (0x41, 0xD46): "Cortex-A510",
    (0x41, 0xD49): "Neoverse-N2",
    (0x41, 0xD4F): "Neoverse-V2",
    (0x41, 0xD80): "Cortex-A520",
    (0x41, 0xD81): "Cortex-A720",
    (0x41, 0xD83): "Neoverse-V3AE",
    (0x41, 0xD84): "Neoverse-V3",
    (0x4E, 0x003): "NVIDIA Denver 2",
    (0x4E, 0x004): "NVIDIA Carmel",
}


def describe(machine: Machine) -> dict[str, Any]:
    return {
        "model": fact(model, machine),
        "architecture": platform.machine(),
        "instruction_sets": fact(instruction_sets, machine),
        "physical_cores": fact(physical_cores, machine),
        "logical_cores": fact(lambda: len(online(machine))),
        "allowed_cores": fact(allowed_cores, machine),
        "quota_cores": fact(quota_cores, machine),
        "governor": fact(governor, machine),
        "stated_mhz": fact(stated_mhz, machine),
        "current_mhz": fact(lambda: [khz // 1000 for khz in policies(machine, "scaling_cur_freq")]),
        "min_mhz": fact(lambda: min(policies(machine, "scaling_min_freq")) // 1000),
        "max_mhz": fact(lambda: max(policies(machine, "scaling_max_freq")) // 1000),
        "hardware_max_mhz": fact(lambda: max(policies(machine, "cpuinfo_max_freq")) // 1000),
    }


def model(machine: Machine) -> str:
    """x86 says it in plain words; ARM gives numbers, for each kind of core where there are several."""
    text = machine.text("proc/cpuinfo")
    # A Jetson's "ARMv8 Processor rev 1 (v8l)" names an architecture, not a core: the numbers say more.
    makers = re.findall(r"^CPU implementer\s*: (0x[0-9a-f]+)$", text, re.MULTILINE)
    parts = re.findall(r"^CPU part\s*: (0x[0-9a-f]+)$", text, re.MULTILINE)
    if makers and len(makers) == len(parts):
        cores = Counter((int(maker, 16), int(part, 16)) for maker, part in zip(makers, parts, strict=True))
        unknown = "ARM core {1:#05x} of maker {0:#04x}"
        return " + ".join(f"{count} x {ARM_PARTS.get(core, unknown.format(*core))}" for core, count in cores.items())
    if found := re.search(r"^model name\s*: (.+)$", text, re.MULTILINE):
        return re.sub(r"\s+", " ", found[1]).strip()
    raise NotMeasured("/proc/cpuinfo names no model")


def instruction_sets(machine: Machine) -> list[str]:
    """Of `WANTED`, what every core has: a program may be moved to any of them."""
    text = machine.text("proc/cpuinfo")
    lines = re.findall(r"^(?:flags|Features)\s*: (.*)$", text, re.MULTILINE)
    if not lines:
        raise NotMeasured("/proc/cpuinfo lists no instruction sets")
    common = set.intersection(*(set(line.split()) for line in lines))
    return [name for name in WANTED if name in common]


def online(machine: Machine) -> list[int]:
    """The numbers of the cores that are switched on (nvpmodel switches some off)."""
    return numbers(machine.text(f"{CPUS}/online"))


def physical_cores(machine: Machine) -> int:
    """Cores that share nothing but caches; two hyper-threads are one."""
    for name in ("core_cpus_list", "thread_siblings_list"):  # the newer name first
        cores = {fact(machine.text, f"{CPUS}/cpu{cpu}/topology/{name}") for cpu in online(machine)}
        if all(re.fullmatch(r"[\d,-]+", core) for core in cores):
            return len(cores)
    raise NotMeasured("the kernel shows no topology of the cores")


def allowed_cores(machine: Machine) -> int:
    """Cores on which the scheduler may put this process (taskset, cpuset)."""
    found = re.search(r"^Cpus_allowed_list:\s*([\d,-]+)$", machine.text("proc/self/status"), re.MULTILINE)
    if not found:
        raise NotMeasured("/proc/self/status lists no cores")
    return len(set(numbers(found[1])) & set(online(machine)))


def quota_cores(machine: Machine) -> float | str:
    """Processor time per second that a container's limit leaves to this process, in cores."""
    found: list[float] = []
    for folder in cgroups(machine, "cpu"):
        limit = fact(machine.text, f"{folder}/cpu.max").split()  # "max 100000" or "150000 100000", in us
        if len(limit) != 2:  # the first version of cgroups
            limit = [fact(machine.text, f"{folder}/cpu.cfs_{part}_us") for part in ("quota", "period")]
        if all(part.isdecimal() for part in limit) and int(limit[1]):
            found.append(int(limit[0]) / int(limit[1]))
    return round(min(found), 2) if found else "no limit"


def cgroups(machine: Machine, controller: str) -> list[str]:
    """This process's folders of a controller, from the innermost to the outermost; a limit of any of them holds."""
    folders: list[str] = []
    for line in machine.text("proc/self/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if number == "0" and not names:
            base = "sys/fs/cgroup"
        elif controller in names.split(","):
            base = f"sys/fs/cgroup/{controller}"
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        # A container may see the host's path, which is not there, while its own limit stands at the top.
        folders += [f"{base}/{part}".removesuffix("/.") for part in (inner, *inner.parents)]
    return list(dict.fromkeys(folders))


def policies(machine: Machine, name: str) -> list[int]:
    """kHz of every group of cores that shares a clock."""
    found = machine.paths(f"{CPUS}/cpufreq/policy*/{name}")
    if not found:
        raise NotMeasured("the kernel offers no cpufreq, as in most virtual machines")
    return [machine.number(path) for path in found]


def governor(machine: Machine) -> str:
    found = machine.paths(f"{CPUS}/cpufreq/policy*/scaling_governor")
    if not found:
        raise NotMeasured("the kernel offers no cpufreq, as in most virtual machines")
    return ", ".join(dict.fromkeys(machine.text(path) for path in found))


def stated_mhz(machine: Machine) -> float:
    """What /proc/cpuinfo says of the first core: its clock on a bare PC, a nominal one in a virtual machine."""
    found = re.search(r"^cpu MHz\s*: ([\d.]+)$", machine.text("proc/cpuinfo"), re.MULTILINE)
    if not found:
        raise NotMeasured("/proc/cpuinfo states no clock")
    return round(float(found[1]), 1)


def numbers(text: str) -> list[int]:
    """ "0-2,4" in the kernel's lists: [0, 1, 2, 4]."""
    found: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found
