"""Cost of a network: parameters, multiply-adds of a window or of one streaming step, and the shapes of its stages.

print(cost_table("f0", width=1.0))
"""

import copy

import torch
from torch.utils.flop_counter import FlopCounterMode

from runtime.audio.features import PRESETS, Preset
from runtime.audio.score_times import STEP
from train.networks import NAMES, STREAMING, build
from train.networks.blocks import UNSTRIDED, Stride
from train.networks.senet import StagedNetwork
from train.networks.streaming import GATE_SECONDS, StreamingNetwork


@torch.no_grad()
def stage_shapes(network: StagedNetwork, bands: int, frames: int) -> list[tuple[int, ...]]:
    """Return (channels, bands, frames) after the stem and after every stage of a windowed network."""
    network = copy.deepcopy(network).eval().to("meta")
    outputs = [network.stem(torch.zeros(1, 1, bands, frames, device="meta"))]
    for stage in network.stages:
        outputs.append(stage(outputs[-1]))
    return [tuple(output.shape[1:]) for output in outputs]


@torch.no_grad()
def multiply_adds(network: StagedNetwork, bands: int, frames: int, step: bool = False) -> int:
    """Count multiply-adds of convolutions and matrix products of a window, or of a streaming network's `step`."""
    network, state = copy.deepcopy(network).eval(), None
    if not isinstance(network, StreamingNetwork):
        network.to("meta")  # counts without computing
    elif step:
        state = network.reset_state(1, bands)
    features = torch.zeros(1, 1, bands, frames, device=next(network.parameters()).device)
    with FlopCounterMode(display=False) as counter:
        network(features) if state is None else network.step(features, state)  # type: ignore[operator]
    return counter.get_total_flops() // 2


def cost_table(
    frontend: Preset,
    width: float = 1.0,
    streaming: bool = False,
    stem_stride: Stride = UNSTRIDED,
) -> str:
    """Return a Markdown table of every network's cost; with `streaming`, of every streaming one's step and state."""
    bands, frames = PRESETS[frontend].bands, PRESETS[frontend].width
    lines = [
        "| network | parameters | multiply-adds | after stages 1, 2, 3, 4 (channels x bands x frames) |",
        "| --- | ---: | ---: | --- |",
    ]
    if streaming:
        lines = [
            f"| network | parameters | multiply-adds of {STEP} new frames | of a window | state in float, bytes |",
            "| --- | ---: | ---: | ---: | ---: |",
        ]
    for name in STREAMING if streaming else NAMES:
        if name == "encoder" and PRESETS[frontend].shape != "mel":
            continue
        gate_seconds = GATE_SECONDS if streaming else None
        network = build(name, width, gate_seconds=gate_seconds, stem_stride=stem_stride, bands=bands)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        if isinstance(network, StreamingNetwork):
            step, window = (
                multiply_adds(network, bands, STEP, step=True),
                multiply_adds(build(name, width, stem_stride=stem_stride), bands, frames),
            )
            state = sum(value.nbytes for value in network.reset_state(1, bands).values())
            lines.append(f"| {name} | {parameters:,} | {step / 1e6:,.1f} M | {window / 1e6:,.0f} M | {state:,} |")
        else:
            shapes = ", ".join(" x ".join(map(str, shape)) for shape in stage_shapes(network, bands, frames)[1:])
            work = multiply_adds(network, bands, frames)
            lines.append(f"| {name} | {parameters:,} | {work / 1e6:,.0f} M | {shapes} |")
    return "\n".join(lines)
