"""Networks by name: `build("ecanet18")`. `python -m train --list-networks` prints parameters and multiply-adds."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from runtime.audio.features import MEL_BANDS
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearest

if TYPE_CHECKING:
    from train.networks.senet import StagedNetwork

SENETS = tuple(f"{family}net{layers}" for family in ("eca", "se") for layers in (9, 18, 34, 50))
CONVOLUTIONAL = (*SENETS, "res2net50", "seres2net50", "mpif50", "ecamobile")
NAMES = (*CONVOLUTIONAL, "encoder")
ENCODER_LAYERS = {"tiny": 4, "base": 6, "small": 12}  # of Whisper, by size
STAGES = 4  # of all networks but the encoder
STREAMING = (*SENETS, "ecamobile")  # those with a causal, stateful form


def build(
    name: str,
    width: float = 1.0,
    dropout: float = 0.0,
    loss: str = "asoftmax",
    gate_seconds: float | None = None,
    stem_stride: tuple[int, int] = (1, 1),
    encoder: tuple[str, int, int] = ("base", 3, 0),
    bands: int = MEL_BANDS,
) -> "StagedNetwork":
    """Build a randomly initialised network with the classifier of a loss and a stem that strides in bands and frames.

    With `gate_seconds`, the time constant of its gates' averages, it is a train.networks.streaming.StreamingNetwork.
    `encoder` is the size of the network of that name, its layers, and how many of them train; it alone depends on
    `bands`.
    """
    from train.networks.encoder import EncoderNetwork
    from train.networks.heads import HEADS
    from train.networks.light import ecamobile
    from train.networks.res2net import RES2NETS, res2net
    from train.networks.senet import UNITS, senet  # torch is loaded only here

    known: dict[str, Callable[..., StagedNetwork]] = {
        **{f"{gate}net{layers}": partial(senet, gate, layers) for gate in ("eca", "se") for layers in UNITS},
        **{name: partial(res2net, gate) for name, gate in RES2NETS.items()},
        "ecamobile": ecamobile,
    }
    if gate_seconds is not None and name in NAMES and name not in STREAMING:
        raise ShrikeError(f"{name} has no streaming form; expected one of {', '.join(STREAMING)}")
    if name == "encoder":
        size, layers, tuned = encoder
        return EncoderNetwork(size, layers, dropout, HEADS[loss], tuned, bands)
    if name not in known:
        raise ShrikeError(f"unknown network {name!r}; expected one of {', '.join(NAMES)}{nearest(name, NAMES)}")
    make = partial(known[name], width=width, dropout=dropout, head=HEADS[loss], stem_stride=stem_stride)
    if gate_seconds is None:
        return make()
    from train.networks.streaming import CausalLayers, StreamingNetwork

    return make(time=CausalLayers(gate_seconds), network=StreamingNetwork)
