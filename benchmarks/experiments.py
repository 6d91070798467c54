"""Runs of `python -m train` that differ in their seed alone, as one row of a table: mean ± standard deviation, best.

    python -m benchmarks.experiments runs/*

A run's dev EER is that of its best epoch. Its eval EER comes from eval.scores.txt in the run's folder, which
`python -m train.score runs/NAME/model.pt --partition eval --out runs/NAME/eval.scores.txt` writes once.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from runtime.command import parse, run
from runtime.errors import ShrikeError


@dataclass(frozen=True)
class Options:
    """Summarise training runs as a Markdown table."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of python -m train."""
    hide: tuple[str, ...] = ()
    """Settings that are not shown although they differ."""


def main() -> None:
    options = parse(Options, "benchmarks.experiments", __doc__)
    if not options.runs:
        raise ShrikeError("no runs were named; give the folders that python -m train --out wrote")
    print(table([read_run(folder) for folder in options.runs], options.hide))


@dataclass(frozen=True)
class Result:
    """What one run amounts to."""

    settings: dict[str, Any]  # flat, without what only says where it ran
    seed: int
    dev: float  # EER in %
    epoch: int
    evaluation: float | None


def read_run(folder: Path) -> Result:
    from train import metrics
    from train.checkpoint import read_checkpoint
    from train.scorefile import read_scores

    checkpoint = read_checkpoint(folder / "model.pt")
    flat = checkpoint.settings.recipe()
    best = checkpoint.history[-1]
    scores = folder / "eval.scores.txt"
    evaluation = None
    if scores.exists():
        found = read_scores(scores)
        evaluation = 100 * metrics.eer(found.bonafide, found.spoof)
    return Result(flat, flat.pop("seed"), 100 * best["dev_eer"], best["epoch"], evaluation)


def table(results: list[Result], hide: tuple[str, ...] = ()) -> str:
    """One row for all runs whose settings are equal; columns for the settings that differ between rows."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(json.dumps(result.settings, sort_keys=True), []).append(result)
    names = results[0].settings
    shown = [n for n in names if len({json.dumps(r.settings[n]) for r in results}) > 1 and n not in hide]
    header = [*shown, "seeds", "best epochs", "dev EER %", "eval EER %"]
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    for members in groups.values():
        members = sorted(members, key=lambda member: member.seed)
        cells = [str(members[0].settings[name]) for name in shown]
        cells += [", ".join(str(m.seed) for m in members), ", ".join(str(m.epoch) for m in members)]
        evaluations = [m.evaluation for m in members if m.evaluation is not None]
        cells += [_spread([m.dev for m in members]), _spread(evaluations)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    around = f"{mean(values):.2f} ± {stdev(values):.2f}" if len(values) > 1 else f"{values[0]:.2f}"
    return f"{around} (best {min(values):.2f})" if len(values) > 1 else around


if __name__ == "__main__":
    run(main)
