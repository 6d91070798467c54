"""What each layer's rounding costs, by measurement, and which layers therefore stay float.

    noise = measure(model, layers, ranges, windows, graph.run)         # dB, one for each layer
    kept, dropped = settle(model, layers, ranges, windows, wanted=30.0)

The measure is the signal-to-noise ratio of the score: how far scores of different windows lie apart, against how far
INT8 moves them. A shift that is the same for all windows is no noise: the threshold and the score's calibration take it
up. The windows are those that calibrated: the gate's trials have no part in any choice, or they could not judge it.

The rule is greedy: while all layers together give less than what is wanted, the layer that is noisiest on its own stays
float. 30 dB are a standard deviation of 3 % of the scores' own: neighbours in rank swap, an EER hardly moves.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from export import graph
from export.graph import Floats, score
from export.int8.quantize import Layer, quantise
from export.int8.scales import Ranges
from train.progress import CONSOLE, Progress

WINDOWS = 64  # of the calibration's, that each layer is measured on: an SNR needs no more
CLEAN = 99.0  # dB, for noise that cannot be seen in float32

Run = Callable[[onnx.ModelProto, Sequence[Floats]], Floats]


@dataclass(frozen=True)
class Settled:
    """What computes in INT8, and what was learned on the way."""

    layers: list[Layer]
    stays_float: dict[str, str]  # layer -> why
    noise: dict[str, float]  # layer -> dB when it alone is INT8; empty where nobody asked
    total: float  # dB of all that is INT8 together


def snr(clean: NDArray[np.float64], noisy: NDArray[np.float64]) -> float:
    """dB between the spread of scores and the spread of their change."""
    signal, noise = float(np.var(clean)), float(np.var(noisy - clean))
    if noise <= signal * 10 ** (-CLEAN / 10):
        return CLEAN
    return 10 * float(np.log10(max(signal, 1e-30) / noise))


def measure(
    model: onnx.ModelProto, layers: Sequence[Layer], ranges: Ranges, windows: Sequence[Floats], run: Run
) -> dict[str, float]:
    """dB for every layer, when it is the only one in INT8."""
    clean = score(run(model, windows))
    noise = {}
    with Progress("noise of each layer", len(layers), "layers") as bar:
        for layer in layers:
            noise[layer.name] = snr(clean, score(run(quantise(model, [layer], ranges, "uint8"), windows)))
            bar.advance()
    return noise


def settle(
    model: onnx.ModelProto,
    layers: Sequence[Layer],
    ranges: Ranges,
    windows: Sequence[Floats],
    wanted: float,
    keep: Sequence[str] = (),
    report: bool = False,
    run: Run | None = None,
) -> Settled:
    """The most INT8 that gives `wanted` dB; `keep` names layers that stay float whatever they cost.

    `run` gives a graph's logits, one row for each of the windows; by default they go through it one by one.
    """
    run = run or graph.run
    stays = dict.fromkeys(keep, "asked for (--keep-float)")
    left = [layer for layer in layers if layer.name not in stays]
    clean = score(run(model, windows))

    def together() -> float:
        return snr(clean, score(run(quantise(model, left, ranges, "uint8"), windows)))

    total = together()
    noise = measure(model, layers, ranges, windows, run) if report or total < wanted else {}
    while total < wanted and left:
        worst = min(left, key=lambda layer: noise[layer.name])
        left.remove(worst)
        before, total = total, together()
        stays[worst.name] = (
            f"{noise[worst.name]:.1f} dB alone; with it all together had {before:.1f} dB, {wanted:g} are wanted"
        )
    return Settled(left, stays, noise, total)


def show(settled: Settled, layers: Sequence[Layer], by_design: dict[str, str]) -> None:
    """The report as a table on stderr, the noisiest layer first."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("layer", "computes", "alone in INT8", "becomes", box=SIMPLE)
    table.columns[2].justify = "right"
    for column in table.columns[:3]:
        column.no_wrap = True
    for layer in sorted(layers, key=lambda layer: settled.noise[layer.name]):
        why = settled.stays_float.get(layer.name)
        becomes = f"float: {why}" if why else "INT8"
        table.add_row(layer.name, layer.operation, f"{settled.noise[layer.name]:.1f} dB", becomes)
    for name, why in by_design.items():
        table.add_row(name, name.rpartition(".")[2], "-", f"float: {why}")
    table.add_row("all that is INT8 together", "", f"{settled.total:.1f} dB", "")
    CONSOLE.print(table)
