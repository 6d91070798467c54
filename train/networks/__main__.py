"""What every network costs: parameters, multiply-adds of one window, and the shapes behind each stage.

python -m train.networks
python -m train.networks --frontend wide --width 0.5
"""

from dataclasses import dataclass
from typing import Literal

from runtime.command import parse, run
from runtime.features import PRESETS


@dataclass(frozen=True)
class Options:
    """Print the cost of every network as a Markdown table."""

    frontend: Literal["f0", "wide"] = "f0"
    """Which front-end's windows the networks look at."""
    width: float = 1.0
    """Factor on every channel count."""


def main() -> None:
    options = parse(Options, "train.networks", __doc__)
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


if __name__ == "__main__":
    run(main)
