"""An NVIDIA GPU of a PC, as nvidia-smi sees it; a Jetson's is in benchmarks.host.jetson.

describe(Machine())["name"]      # "NVIDIA GeForce RTX 5060 Laptop GPU", or why not
"""

import csv
from typing import Any

from benchmarks.host.jetson import is_jetson
from benchmarks.host.machine import UNKNOWN, Machine, NotMeasured

QUERIES = {  # our key: nvidia-smi's field
    "name": "name",
    "driver": "driver_version",
    "compute_capability": "compute_cap",
    "memory": "memory.total",
    "power_limit": "power.limit",
    "sm_clock": "clocks.current.sm",
    "sm_clock_max": "clocks.max.sm",
    "memory_clock": "clocks.current.memory",
    "temperature": "temperature.gpu",
}
NEW = {"compute_cap"}  # older drivers refuse the whole question for it


def describe(machine: Machine) -> dict[str, Any]:
    """The first GPU's facts and the number of GPUs; nvidia-smi's own units are part of the values."""
    keys = ("count", *QUERIES)
    if is_jetson(machine):
        return dict.fromkeys(keys, f"{UNKNOWN}a Jetson's GPU is described with its board")
    try:
        cards = query(machine)
    except NotMeasured as reason:
        return dict.fromkeys(keys, str(reason))
    first = {key: cards[0].get(field, f"{UNKNOWN}nvidia-smi does not tell") for key, field in QUERIES.items()}
    return {"count": len(cards), **first}


def query(machine: Machine) -> list[dict[str, str]]:
    asked = list(QUERIES.values())
    try:
        text = machine.run("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv")
    except NotMeasured as reason:
        if "exit code" not in reason.args[0]:
            raise
        asked = [field for field in asked if field not in NEW]
        text = machine.run("nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv")
    cards = parse_csv(text)
    if not cards:
        raise NotMeasured("nvidia-smi finds no GPU")
    return cards


def parse_csv(text: str) -> list[dict[str, str]]:
    """Each GPU's fields by nvidia-smi's names, "325.00 W" for "power.limit [W]"; what is in brackets is no value."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if row]
    if len(rows) < 2:
        return []
    names = [name.partition(" [")[0].strip() for name in rows[0]]
    told = [
        {name: value.strip() for name, value in zip(names, row, strict=True)}
        for row in rows[1:]
        if len(row) == len(names)
    ]
    # "[N/A]", "[Not Supported]", "[Unknown Error]"
    return [{name: value for name, value in card.items() if value and not value.startswith("[")} for card in told]
