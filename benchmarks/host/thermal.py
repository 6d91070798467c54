"""How hot the machine is, and whether it slowed itself down for it.

    temperatures(Machine())      # {"cpu-thermal": 45.5, "gpu-thermal": "not measured, because ..."}
    throttling(Machine())        # {"events": {"oc1": 0}, "active": []}

Events are counted by the kernel since it started: what happened during a run is the difference of two readings.
"""

import re
from typing import Any

from benchmarks.host.machine import UNKNOWN, Machine, NotMeasured, fact

SENSORS = {"coretemp", "k10temp", "zenpower"}  # hwmon chips of PCs' processors; boards have thermal zones
COLDEST = -40.0  # degrees; a switched-off sensor says -256 or less
# vcgencmd get_throttled of a Raspberry Pi: the state now, and 16 bits higher what has been since it started
PI_BITS = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def temperatures(machine: Machine) -> dict[str, float | str] | str:
    """Degrees Celsius of every thermal zone and processor sensor."""
    found: dict[str, float | str] = {}
    for zone in machine.paths("sys/class/thermal/thermal_zone*"):
        _enter(found, fact(machine.text, f"{zone}/type"), fact(_degrees, machine, f"{zone}/temp"))
    for chip in machine.paths("sys/class/hwmon/hwmon*"):
        name = fact(machine.text, f"{chip}/name")
        if name in SENSORS:
            for path in machine.paths(f"{chip}/temp*_input"):
                label = fact(machine.text, path.replace("_input", "_label"))
                name_of = f"{name} {label}" if not label.startswith(UNKNOWN) else name
                _enter(found, name_of, fact(_degrees, machine, path))
    return found or f"{UNKNOWN}the kernel shows no thermal zones and no sensors, as in most virtual machines"


def throttling(machine: Machine) -> dict[str, Any]:
    """What the machine counts and what holds it back at this moment."""
    return {"events": fact(events, machine), "active": fact(active, machine)}


def events(machine: Machine) -> dict[str, int]:
    """Over-current events of a Jetson (oc1 to oc3, since JetPack 5), thermal ones of an Intel processor."""
    found = {}
    for path in machine.paths("sys/class/hwmon/hwmon*/oc*_event_cnt"):
        found[path.rpartition("/")[2].removesuffix("_event_cnt")] = machine.number(path)
    folder = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle"
    if cores := machine.paths(f"{folder}/core_throttle_count"):
        found["core thermal"] = sum(machine.number(path) for path in cores)
    if packages := machine.paths(f"{folder}/package_throttle_count"):  # each core repeats its package's
        found["package thermal"] = max(machine.number(path) for path in packages)
    if not found:
        raise NotMeasured("the kernel counts no throttling here")
    return found


def active(machine: Machine) -> list[str]:
    """Names of what throttles now."""
    found, known = [], False
    for device in machine.paths("sys/class/thermal/cooling_device*"):
        kind = fact(machine.text, f"{device}/type")
        if re.search(r"throttle|hot-surface", kind):  # Jetson: cpu-throttle-alert, gpu-throttle-alert, ...
            known = True
            if machine.number(f"{device}/cur_state"):
                found.append(kind)
    state = fact(machine.run, "vcgencmd", "get_throttled")
    if match := re.match(r"throttled=(0x[0-9a-fA-F]+)", state):
        known, bits = True, int(match[1], 16)
        found += [name for place, name in enumerate(PI_BITS) if bits >> place & 1]
        found += [f"{name} since the start" for place, name in enumerate(PI_BITS) if bits >> (place + 16) & 1]
    if not known:
        raise NotMeasured("neither the kernel nor a board's program tells")
    return found


def hottest(readings: dict[str, float | str] | str) -> tuple[str, float] | None:
    """The zone with the highest temperature; None where nothing was measured."""
    measured = [] if isinstance(readings, str) else [(n, v) for n, v in readings.items() if not isinstance(v, str)]
    return max(measured, key=lambda entry: entry[1], default=None)


def _degrees(machine: Machine, path: str) -> float:
    value = machine.number(path) / 1000
    if value <= COLDEST:
        raise NotMeasured("the sensor is off")
    if value == 100 and "PMIC" in fact(machine.text, path.replace("/temp", "/type")):
        raise NotMeasured("this chip has no sensor: its driver always says 100")
    return round(value, 1)


def _enter(found: dict[str, float | str], name: str, value: float | str) -> None:
    number, free = 2, name
    while free in found:
        free, number = f"{name} ({number})", number + 1
    found[free] = value
