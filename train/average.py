"""Average the weights of checkpoints of one network, as of a model and its fine-tuned form.

python -m train.average runs/model/model.pt runs/fine/last.pt --out runs/both/model.pt

For a model and the same after --init (fine-tuning): the mean often keeps the accuracy of the first and most of what the
second learned (Wortsman et al., CVPR 2022, "WiSE-FT"). Not for runs from different random weights. Score the result on
dev (python -m train.score) before you use it.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from runtime.support.command import PATHS, parse, run
from runtime.support.errors import ShrikeError

ORIGIN = "average "  # before the number of a checkpoint, in the record of where the weights come from


@dataclass(frozen=True)
class Options:
    """Average the weights of checkpoints of one network."""

    models: tyro.conf.Positional[Annotated[tuple, PATHS]]
    """Checkpoints of python -m train, two or more; the last one's settings are kept."""
    out: Path
    """The new model.pt."""


def main() -> None:
    options = parse(Options, "train.average", __doc__)
    if len(options.models) < 2:
        raise ShrikeError(
            "expected two checkpoints or more, as in python -m train.average A/model.pt B/last.pt --out C.pt"
        )
    if options.out.exists():
        raise ShrikeError(f"--out {options.out} exists; use another name")
    from runtime.card.checksums import sha256_file
    from train.checkpoint import average, read_checkpoint, write_checkpoint
    from train.config import ARCHITECTURE, differences

    found = [read_checkpoint(path) for path in options.models]
    last = found[-1]
    for path, one in zip(options.models, found, strict=True):
        odd = differences(one.settings, last.settings, (*ARCHITECTURE, "distill", "leave_out"))
        if odd:
            raise ShrikeError(f"{path}: expected the network of {options.models[-1]}: {'; '.join(odd)}")
    origins = {f"{ORIGIN}{number}": sha256_file(path) for number, path in enumerate(options.models, 1)}
    write_checkpoint(
        options.out,
        replace(
            last,
            weights=average([one.weights for one in found]),
            helpers=average([one.helpers for one in found]),
            optimiser={},
            history=[],  # no epoch had these weights
            corpus={name: one for name, one in last.corpus.items() if not name.startswith(ORIGIN)} | origins,
        ),
    )
    print(options.out)


if __name__ == "__main__":
    run(main)
