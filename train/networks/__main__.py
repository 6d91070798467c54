"""What every network costs: parameters, multiply-adds of one window, and the shapes behind each stage.

python -m train.networks
python -m train.networks --frontend wide --width 0.5
python -m train.networks --streaming            # of one step instead, and what a stream keeps
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from runtime.audio.features import PRESETS
from runtime.support.command import parse, run

if TYPE_CHECKING:
    from train.networks.streaming import StreamingNetwork


@dataclass(frozen=True)
class Options:
    """Print the cost of every network as a Markdown table."""

    frontend: Literal["f0", "wide"] = "f0"
    """f0: the lowest 45 bins, 0-417 Hz, as published. wide: 60 bands over 0-8 kHz."""
    width: float = 1.0
    """Factor on every channel count."""
    streaming: bool = False
    """Look back only and remember: the cost of a step of 16 frames, and the bytes of a stream's state in float."""


def main() -> None:
    options = parse(Options, "train.networks", __doc__)
    if options.streaming:
        show_steps(options)
        return
    from train.networks import NAMES, build
    from train.networks.senet import multiply_adds, stage_shapes

    bands, frames = PRESETS[options.frontend].bands, PRESETS[options.frontend].width
    print("| network | parameters | multiply-adds | after stages 1, 2, 3, 4 (channels x bands x frames) |")
    print("| --- | ---: | ---: | --- |")
    for name in NAMES:
        network = build(name, options.width)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        cost = multiply_adds(network, bands, frames)
        shapes = ", ".join(" x ".join(map(str, shape)) for shape in stage_shapes(network, bands, frames)[1:])
        print(f"| {name} | {parameters:,} | {cost / 1e6:,.0f} M | {shapes} |")


def show_steps(options: Options) -> None:
    from runtime.audio.score_times import STEP
    from train.networks import STREAMING, build
    from train.networks.senet import multiply_adds
    from train.networks.streaming import GATE_SECONDS, StreamingNetwork

    bands, frames = PRESETS[options.frontend].bands, PRESETS[options.frontend].width
    print(
        f"| network | parameters | multiply-adds of {STEP} new frames | of a whole window | state of a stream, bytes |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in STREAMING:
        network = build(name, options.width, gate_seconds=GATE_SECONDS)
        assert isinstance(network, StreamingNetwork)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        step, window = step_cost(network, bands, STEP), multiply_adds(build(name, options.width), bands, frames)
        state = sum(value.nbytes for value in network.reset_state(1, bands).values())
        print(f"| {name} | {parameters:,} | {step / 1e6:,.1f} M | {window / 1e6:,.0f} M | {state:,} |")


def step_cost(network: "StreamingNetwork", bands: int, frames: int) -> int:
    """Multiply-adds of one step, those of the averages included."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    network.eval()
    with torch.no_grad():
        state = network.reset_state(1, bands)
        with FlopCounterMode(display=False) as counter:
            network.step(torch.zeros(1, 1, bands, frames), state)
    return counter.get_total_flops() // 2


if __name__ == "__main__":
    run(main)
