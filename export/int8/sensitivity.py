"""The noise of each layer's rounding, measured, and the choice of layers that stay float.

    choice = choose_layers(model, layers, ranges, windows, wanted=30.0)

The measure is the signal-to-noise ratio of the score: the variance of scores over windows, against the variance of
their change by INT8. A constant shift is no noise: the threshold and the score map absorb it. The windows are those of
the calibration: the gate's trials take no part in the choice.

The rule is greedy: while the ratio of all layers together is too low, the layer that is noisiest on its own stays
float. At 30 dB the noise is 3 % of the scores' standard deviation: neighbours in rank swap, an EER hardly moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from export.graph import Floats, score
from export.int8.quantize import Layer, quantise
from export.int8.scales import Ranges
from export.model_graph import ModelGraph, last_logits
from train.progress import CONSOLE, Progress

WINDOWS = 64  # calibration windows that each layer is measured on: an SNR needs no more
CLEAN = 99.0  # dB, for noise below float32's precision


@dataclass(frozen=True)
class LayerChoice:
    """The layers in INT8, and the measurements behind the choice."""

    layers: list[Layer]
    stays_float: dict[str, str]  # layer -> why
    noise: dict[str, float]  # layer -> dB when it alone is INT8; empty if not measured
    total: float  # dB of all INT8 layers together


def snr(clean: NDArray[np.float64], noisy: NDArray[np.float64]) -> float:
    """Ratio in dB between the variance of scores and the variance of their change."""
    signal, noise = float(np.var(clean)), float(np.var(noisy - clean))
    if noise <= signal * 10 ** (-CLEAN / 10):
        return CLEAN
    return 10 * float(np.log10(max(signal, 1e-30) / noise))


def choose_layers(
    model: ModelGraph,
    layers: Sequence[Layer],
    ranges: Ranges,
    windows: Sequence[Floats],
    wanted: float,
    keep: Sequence[str] = (),
    report: bool = False,
) -> LayerChoice:
    """Choose the INT8 layers that reach `wanted` dB; `keep` names layers that stay float in any case."""
    stays = dict.fromkeys(keep, "requested (--keep-float)")
    left = [layer for layer in layers if layer.name not in stays]
    clean = score(last_logits(model, windows))

    def ratio(chosen: Sequence[Layer]) -> float:
        rounded = model.with_graph(quantise(model.graph, chosen, ranges, "uint8"))
        return snr(clean, score(last_logits(rounded, windows)))

    total, noise = ratio(left), dict[str, float]()
    if report or total < wanted:
        with Progress("noise of each layer", len(layers), "layers") as bar:
            for layer in layers:
                noise[layer.name] = ratio([layer])
                bar.advance()
    while total < wanted and left:
        worst = min(left, key=lambda layer: noise[layer.name])
        left.remove(worst)
        before, total = total, ratio(left)
        stays[worst.name] = (
            f"{noise[worst.name]:.1f} dB alone; with it all INT8 layers have {before:.1f} dB, below {wanted:g}"
        )
    return LayerChoice(left, stays, noise, total)


def show(choice: LayerChoice, layers: Sequence[Layer], by_design: dict[str, str]) -> None:
    """Print the measurements as a table on stderr, the noisiest layer first."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("layer", "computes", "alone in INT8", "becomes", box=SIMPLE)
    table.columns[2].justify = "right"
    for column in table.columns[:3]:
        column.no_wrap = True
    for layer in sorted(layers, key=lambda layer: choice.noise[layer.name]):
        why = choice.stays_float.get(layer.name)
        becomes = f"float: {why}" if why else "INT8"
        table.add_row(layer.name, layer.operation, f"{choice.noise[layer.name]:.1f} dB", becomes)
    for name, why in by_design.items():
        table.add_row(name, name.rpartition(".")[2], "-", f"float: {why}")
    table.add_row("all INT8 layers", "", f"{choice.total:.1f} dB", "")
    CONSOLE.print(table)
