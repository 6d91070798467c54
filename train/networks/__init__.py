"""Networks by name: `build("ecanet18")`.

python -m train.networks            # parameters and multiply-adds of all of them
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from runtime.errors import ShrikeError

if TYPE_CHECKING:
    from train.networks.senet import StagedNetwork

SENETS = tuple(f"{family}net{layers}" for family in ("eca", "se") for layers in (9, 18, 34, 50))
NAMES = SENETS


def build(name: str, width: float = 1.0, dropout: float = 0.0, loss: str = "asoftmax") -> "StagedNetwork":
    """The network of that name with fresh weights and the classifier of that loss; an unknown name lists the known."""
    from train.networks.heads import LOSSES
    from train.networks.senet import UNITS, senet  # torch loads here, not with the list of names

    known: dict[str, Callable[..., StagedNetwork]] = {
        **{f"{gate}net{layers}": partial(senet, gate, layers) for gate in ("eca", "se") for layers in UNITS},
    }
    if name not in known:
        raise ShrikeError(f"unknown network {name!r}; known are: {', '.join(known)}")
    return known[name](width=width, dropout=dropout, head=LOSSES[loss].head)
