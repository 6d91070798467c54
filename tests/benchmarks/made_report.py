"""Reports with made numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import Cell, Measured, Plot, Report, Table, new_report

COLUMNS = "model*; form*; median, ms < .2; EER, % < .1; speed, 1/s >; size, MB"
ROWS: tuple[Mapping[str, Cell], ...] = (
    {"model": "f0", "form": "u8", "median": Measured(9.8123, rounds=(9.7, 9.8, 9.9)), "speed": 101.91, "size": 1.27},
    {"model": "f0", "form": "float", "median": Measured(21.6, rounds=(21.5, 21.7)), "EER": Measured(29.4, 25.0, 33.9)},
)


def made_report(
    rows: Sequence[Mapping[str, Cell]] = ROWS,
    machine: dict[str, Any] | None = None,
    kind: str = "latency",
    plots: Sequence[Plot] = (),
) -> Report:
    table = Table.of("steps", "Steps", "One step after the other.", COLUMNS, rows)
    machine = {"cpu": {"model": "made", "cores": 2}} if machine is None else machine
    conditions = {"seconds": 3.0, "threads": [1, 2]}
    return new_report(kind, "A made report", conditions, [table], ["load average 3.1"], plots, machine)
