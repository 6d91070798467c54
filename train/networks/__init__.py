"""Networks by name: `build("ecanet18")`.

python -m train.networks            # parameters and multiply-adds of all of them
"""

from functools import partial
from typing import TYPE_CHECKING

from runtime.errors import ShrikeError

if TYPE_CHECKING:
    from train.networks.senet import StagedNetwork

NAMES = tuple(f"{family}net{layers}" for family in ("eca", "se") for layers in (9, 18, 34, 50))


def build(name: str, width: float = 1.0, dropout: float = 0.0) -> "StagedNetwork":
    """The network of that name with fresh weights; an unknown name lists the known ones."""
    from train.networks.senet import UNITS, senet  # torch loads here, not with the list of names

    known = {f"{gate}net{layers}": partial(senet, gate, layers) for gate in ("eca", "se") for layers in UNITS}
    if name not in known:
        raise ShrikeError(f"unknown network {name!r}; known are: {', '.join(known)}")
    return known[name](width=width, dropout=dropout)
