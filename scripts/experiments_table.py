"""Print training runs as a Markdown table: runs that differ in their seed alone are one row, mean ± standard deviation.

    python -m scripts.experiments_table runs/*
    python -m train.score runs/NAME/model.pt --corpus CORPUS --partition eval --out runs/NAME/eval.scores.txt
    python -m export.onnx runs/NAME/model.pt --calibration CORPUS --out runs/NAME/deploy/

The dev EER is that of the best epoch, on the first window of each clip. A run's folder may hold more: eval.scores.txt
of train.score gives the eval EER, the card in deploy/ the EERs in float and INT8, and --time times the INT8 model.
docs/experiments.md quotes the table.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, stdev
from types import MappingProxyType
from typing import Any

import numpy as np
import tyro

from runtime.card.model_card import read_card
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError

ROUNDS, WARM = 60, 10  # of timing; the first ones are discarded


@dataclass(frozen=True)
class Options:
    """Summarise training runs as a Markdown table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of python -m train."""
    hide: tuple[str, ...] = ()
    """Settings that are not shown although they differ."""
    time: bool = False
    """Time the INT8 model of each row's first seed, on one thread and all in turns."""


def main() -> None:
    options = parse(Options, "scripts.experiments_table", __doc__)
    if not options.runs:
        raise ShrikeError("RUNS is empty: expected folders that python -m train --out wrote")
    results = [read_run(folder) for folder in options.runs]
    print(table(results, options.hide, time_rows(results) if options.time else {}))


@dataclass(frozen=True)
class Run:
    """One training run, as its files state it."""

    settings: dict[str, Any]  # flat, without those of the place where it ran
    seed: int
    dev: float  # EER in %
    epoch: int
    evaluation: float | None
    parameters: int
    multiply_adds: int  # of one window
    deployed: Path | None = None  # model.onnx of the export
    windows: tuple[float, float] | None = None  # EER in % of dev's windows, in float and in INT8, by its card

    @property
    def row(self) -> str:
        """Equal for runs that differ in their seed alone."""
        return json.dumps(self.settings, sort_keys=True)


def read_run(folder: Path) -> Run:
    from train.checkpoint import read_checkpoint
    from train.evaluate import metrics
    from train.evaluate.scorefile import read_scores
    from train.networks.cost import multiply_adds

    checkpoint = read_checkpoint(folder / "model.pt")
    flat = checkpoint.settings.recipe()
    if not checkpoint.history:
        raise ShrikeError(f"{folder}: has no history, as of python -m train.average; expected a run of python -m train")
    best = checkpoint.history[-1]
    scores = folder / "eval.scores.txt"
    evaluation = None
    if scores.exists():
        found = read_scores(scores)
        evaluation = 100 * metrics.eer(found.bonafide, found.spoof)
    network = checkpoint.network()
    frontend = checkpoint.settings.frontend
    size = sum(weight.numel() for weight in network.parameters())
    work = multiply_adds(network, frontend.bands, frontend.width)
    result = Run(flat, flat.pop("seed"), 100 * best["dev_eer"], best["epoch"], evaluation, size, work)
    deployed = folder / "deploy" / "model.onnx"
    if not deployed.exists():
        return result
    accuracy = read_card(deployed).accuracy
    windows = None
    if accuracy.eer_float is not None and accuracy.eer is not None:
        windows = 100 * accuracy.eer_float, 100 * accuracy.eer
    return replace(result, deployed=deployed, windows=windows)


def time_rows(results: list[Run]) -> dict[str, float]:
    """Milliseconds for one window by row: the median of 50 rounds in which all models take turns."""
    from runtime.engines import open_engine

    first = {result.row: result.deployed for result in reversed(results) if result.deployed is not None}
    engines = {row: open_engine(path) for row, path in first.items()}
    dice, times = np.random.default_rng(0), {row: list[float]() for row in first}
    windows = {row: dice.normal(-8, 4, (1, *read_card(path).input.shape[1:])) for row, path in first.items()}
    for _ in range(ROUNDS):
        for row, engine in engines.items():
            began = time.perf_counter()
            engine(windows[row].astype(np.float32))
            times[row].append(1000 * (time.perf_counter() - began))
    return {row: median(found[WARM:]) for row, found in times.items()}


def table(results: list[Run], hide: tuple[str, ...] = (), times: Mapping[str, float] = MappingProxyType({})) -> str:
    """One row for all runs whose settings are equal; columns for the settings that differ between rows."""
    groups: dict[str, list[Run]] = {}
    for result in results:
        groups.setdefault(result.row, []).append(result)
    names = results[0].settings
    shown = [n for n in names if len({json.dumps(r.settings[n]) for r in results}) > 1 and n not in hide]
    columns: dict[str, Callable[[list[Run]], str]] = {
        **{name: partial(_setting, name) for name in shown},
        "parameters": lambda members: f"{members[0].parameters:,}",
        "multiply-adds": lambda members: f"{members[0].multiply_adds / 1e6:,.0f} M",
        "ms": lambda members: f"{times[members[0].row]:.2f}" if members[0].row in times else "-",
        "seeds": lambda members: ", ".join(str(member.seed) for member in members),
        "best epochs": lambda members: ", ".join(str(member.epoch) for member in members),
        "dev EER %": lambda members: _spread([member.dev for member in members]),
        "dev windows, float": lambda members: _spread([m.windows[0] for m in members if m.windows]),
        "dev windows, INT8": lambda members: _spread([m.windows[1] for m in members if m.windows]),
        "eval EER %": lambda members: _spread([m.evaluation for m in members if m.evaluation is not None]),
    }
    rows = [sorted(members, key=lambda member: member.seed) for members in groups.values()]
    cells = {name: [cell(members) for members in rows] for name, cell in columns.items()}
    shown_columns = [name for name in columns if set(cells[name]) != {"-"} or name == "eval EER %"]
    lines = ["| " + " | ".join(shown_columns) + " |", "|" + " --- |" * len(shown_columns)]
    lines += ["| " + " | ".join(cells[name][number] for name in shown_columns) + " |" for number in range(len(rows))]
    return "\n".join(lines)


def _setting(name: str, members: list[Run]) -> str:
    return str(members[0].settings[name])


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    around = f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"
    return f"{around} (best {min(values):.2f})" if len(values) > 1 else around


if __name__ == "__main__":
    run(main)
