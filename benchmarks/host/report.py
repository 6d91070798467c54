"""The machine in words: a few rows that a reader of a number needs, and the whole description for a bug report.

print("\\n".join(rows(describe())))       # | CPU | AMD EPYC; 2 cores, ... |
print(markdown(describe()))              # every value, section by section
"""

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.host.jetson import NO_JETSON
from benchmarks.host.machine import known
from benchmarks.host.thermal import hottest

Facts = Mapping[str, Any]


def rows(facts: Facts) -> list[str]:
    """What decides a number here, as rows of a Markdown table with two columns (without its head)."""
    jetson, gpu, system = facts["jetson"], facts["gpu"], facts["system"]
    table = [
        ("machine", _board(facts)),
        ("CPU", _cpu(facts["cpu"])),
        ("instruction sets", _list(facts["cpu"]["instruction_sets"])),
        ("CPU clock", _clock(facts["cpu"])),
        ("memory", _memory(facts["memory"])),
    ]
    if jetson["l4t"] != NO_JETSON:
        table += [
            ("system of the Jetson", f"L4T {jetson['l4t']}, JetPack {jetson['jetpack']}"),
            ("power mode", f"{jetson['power_mode']}, clocks {_pinned(jetson['clocks_pinned'])}"),
            ("GPU clock", _megahertz(jetson["gpu_mhz"])),
            ("memory clock", _megahertz(jetson["emc_mhz"])),
        ]
    elif known(gpu["name"]):
        card = f"{gpu['name']}, compute capability {gpu['compute_capability']}, driver {gpu['driver']}"
        clocks = f"SM {gpu['sm_clock']} of {gpu['sm_clock_max']}, power limit {gpu['power_limit']}"
        table += [("GPU", card), ("GPU clock", clocks)]
    else:
        table.append(("GPU", gpu["name"]))
    table += [
        ("system", f"{system['os']}, kernel {system['kernel']}; {system['runs_in']}"),
        ("software", _software(system["python"], facts["packages"])),
        ("load", _list(system["load_average"])),
        ("hottest", _hottest(facts["temperatures_c"])),
        ("throttling", _throttling(facts["throttling"])),
        ("power from", facts["power"]["source"]),
    ]
    return [_row(name, value) for name, value in table]


def watch_rows(report: Facts) -> list[str]:
    """What a run did, from `Watch.report()`."""
    before, after, power = report["before"], report["after"], report["power"]
    table = [
        ("load before, after", f"{_list(before['load_average'])} → {_list(after['load_average'])}"),
        ("hottest before, after", _pair(_hottest(before["temperatures_c"]), _hottest(after["temperatures_c"]))),
        ("throttled during the run", _counts(report["throttling_events"])),
    ]
    if known(power["source"]):
        idle, run = power["idle"], power["run"]
        watts = f"{idle['watts']:.2f} W idle → {run['watts']:.2f} W, {run['readings']} readings; {power['scope']}"
        spent, error = power["joules_beyond_idle"], power["joules_standard_error"]
        table += [("power", watts), ("energy beyond idle", f"{spent:.2f} ± {error:.2f} J" if known(spent) else spent)]
    else:
        table.append(("energy", power["source"]))
    return [_row(name, value) for name, value in table]


def table(lines: Iterable[str]) -> str:
    """Rows with their head."""
    return "\n".join(["| the machine | |", "| --- | --- |", *lines])


def markdown(facts: Facts) -> str:
    """Everything, one table per section."""
    parts = ["# The machine"]
    for name, section in facts.items():
        parts += ["", f"## {name.replace('_', ' ')}", ""]
        values = set(map(_value, section.values())) if isinstance(section, Mapping) else {_value(section)}
        if len(values) == 1 and (not isinstance(section, Mapping) or not known(next(iter(values)))):
            parts.append(values.pop())  # a GPU that is not there needs no table
            continue
        parts += ["| | |", "| --- | --- |"]
        parts += [_row(key.replace("_", " "), _value(value)) for key, value in section.items()]
    return "\n".join(parts)


def _row(name: str, value: str) -> str:
    return f"| {name} | {' '.join(value.split()).replace('|', '/')} |"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _list(value) if isinstance(value, list) else str(value)


def _list(values: Any) -> str:
    return values if isinstance(values, str) else ", ".join(map(str, values)) or "none of those we look for"


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"


def _board(facts: Facts) -> str:
    board = facts["system"]["board"]
    return f"{board}, {facts['cpu']['architecture']}" if known(board) else f"{facts['cpu']['architecture']} ({board})"


def _cpu(cpu: Facts) -> str:
    physical, logical, allowed = (cpu[f"{kind}_cores"] for kind in ("physical", "logical", "allowed"))
    cores = f"{physical} cores ({logical} threads)" if known(physical) else f"{logical} threads"
    cores = f"{cores}, {allowed} for this process" if known(logical) else logical
    quota = "" if cpu["quota_cores"] == "no limit" else f", limited to {cpu['quota_cores']} cores' time"
    return f"{cpu['model']}; {cores}{quota if known(cpu['quota_cores']) else ''}"


def _clock(cpu: Facts) -> str:
    if not known(cpu["governor"]):
        stated = f"; /proc/cpuinfo states {cpu['stated_mhz']} MHz" if known(cpu["stated_mhz"]) else ""
        return f"{cpu['governor']}{stated}"
    limits = f"{cpu['min_mhz']} to {cpu['max_mhz']} MHz (the hardware can {cpu['hardware_max_mhz']})"
    return f"governor {cpu['governor']}, {limits}, now {_list(cpu['current_mhz'])}"


def _memory(memory: Facts) -> str:
    limit = "" if memory["limit_mib"] == "no limit" else f", limited to {memory['limit_mib']} MiB"
    return f"{memory['total_mib']} MiB, {memory['available_mib']} available{limit}"


def _megahertz(clock: Any) -> str:
    return clock if isinstance(clock, str) else f"{_value(clock)} (MHz)"


def _pinned(pinned: bool | str) -> str:
    return pinned if isinstance(pinned, str) else "held by jetson_clocks" if pinned else "not held"


def _software(python: str, packages: Facts) -> str:
    return ", ".join([python, *(f"{name} {version}" for name, version in packages.items() if known(version))])


def _hottest(readings: Any) -> str:
    found = hottest(readings)
    if found:
        return f"{found[0]} {found[1]:.1f} °C"
    return readings if isinstance(readings, str) else next(iter(readings.values()))


def _throttling(state: Facts) -> str:
    now = state["active"]
    if known(now):
        return f"now: {', '.join(now) or 'none'}; events since the start: {_counts(state['events'])}"
    return f"now: {now}; events since the start: {_counts(state['events'])}" if known(state["events"]) else now


def _counts(events: Any) -> str:
    return events if isinstance(events, str) else ", ".join(f"{name} {count}" for name, count in events.items())
