"""Runs of `python -m train` that differ in their seed alone, as one row of a table: mean ± standard deviation, best.

    python -m benchmarks.experiments runs/*
    python -m train.score runs/NAME/model.pt --corpus CORPUS --partition eval --out runs/NAME/eval.scores.txt
    python -m export.onnx runs/NAME/model.pt --calibration CORPUS --out runs/NAME/deploy/

A run's dev EER is that of its best epoch, on each clip's first window. What else there is stands in the run's folder:
eval.scores.txt of train.score gives the eval EER; the card of deploy/ gives the EER of dev's windows in float and in
INT8, and --time how long the INT8 model takes for a window.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from types import MappingProxyType
from typing import Any

import numpy as np
import tyro

from runtime.card.model_card import read_card
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError


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
    options = parse(Options, "benchmarks.experiments", __doc__)
    if not options.runs:
        raise ShrikeError("no runs were named; give the folders that python -m train --out wrote")
    results = [read_run(folder) for folder in options.runs]
    print(table(results, options.hide, time_rows(results) if options.time else {}))


@dataclass(frozen=True)
class Result:
    """What one run amounts to."""

    settings: dict[str, Any]  # flat, without what only says where it ran
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


def read_run(folder: Path) -> Result:
    from train.checkpoint import read_checkpoint
    from train.evaluate import metrics
    from train.evaluate.scorefile import read_scores
    from train.networks.senet import multiply_adds

    checkpoint = read_checkpoint(folder / "model.pt")
    flat = checkpoint.settings.recipe()
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
    result = Result(flat, flat.pop("seed"), 100 * best["dev_eer"], best["epoch"], evaluation, size, work)
    deployed = folder / "deploy" / "model.onnx"
    if not deployed.exists():
        return result
    accuracy = read_card(deployed).accuracy
    windows = None
    if accuracy.eer_float is not None and accuracy.eer is not None:
        windows = 100 * accuracy.eer_float, 100 * accuracy.eer
    return replace(result, deployed=deployed, windows=windows)


def time_rows(results: list[Result]) -> dict[str, float]:
    """Milliseconds of one window, by row; all take turns, so that they compare."""
    from benchmarks.timing import Case, measure
    from runtime.engines import open_engine

    first = {result.row: result for result in reversed(results) if result.deployed is not None}
    cases = []
    for row, result in first.items():
        assert result.deployed is not None
        engine, shape = open_engine(result.deployed), read_card(result.deployed).input.shape
        window = np.random.default_rng(0).normal(-8, 4, (1, *shape[1:])).astype(np.float32)  # log power's range
        cases.append(Case(row, partial(engine, window)))
    return {case.name: 1000 * times.median for case, times in zip(cases, measure(cases), strict=True)} if cases else {}


def table(results: list[Result], hide: tuple[str, ...] = (), times: Mapping[str, float] = MappingProxyType({})) -> str:
    """One row for all runs whose settings are equal; columns for the settings that differ between rows."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.row, []).append(result)
    names = results[0].settings
    shown = [n for n in names if len({json.dumps(r.settings[n]) for r in results}) > 1 and n not in hide]
    columns: dict[str, Callable[[list[Result]], str]] = {
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
    kept = [name for name in columns if set(cells[name]) != {"-"} or name == "eval EER %"]
    lines = ["| " + " | ".join(kept) + " |", "|" + " --- |" * len(kept)]
    lines += ["| " + " | ".join(cells[name][number] for name in kept) + " |" for number in range(len(rows))]
    return "\n".join(lines)


def _setting(name: str, members: list[Result]) -> str:
    return str(members[0].settings[name])


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    around = f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"
    return f"{around} (best {min(values):.2f})" if len(values) > 1 else around


if __name__ == "__main__":
    run(main)
