"""Write models into a model repository of NVIDIA Triton, for `shrike serve --backend triton`.

    python -m export.triton edge accurate --out repository/
    python -m export.triton model.onnx --out repository/
    python -m export.triton model.engine --out repository/ --max-batch 16       # built by export.trt --streams 16
    tritonserver --model-repository=repository

A windowed model is batched dynamically. A streaming model gets the sequence batcher: Triton holds the states of each
stream. model.onnx runs with ONNX Runtime, model.engine with TensorRT of the version that built it.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from runtime.card.schema import require
from runtime.support.command import parse, run

MOST = 65_536


@dataclass(frozen=True)
class Options:
    """Write a model repository."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Embedded models (accurate, edge, f0), or paths to model.onnx or model.engine with the card beside them."""
    out: Path
    """Folder of the repository; each model replaces the folder of its name."""
    max_batch: int = 16
    """Most windows or streams in one run of the network; of an engine, at most the --streams that it was built with."""
    streams: int = 1024
    """Streams whose states Triton holds at once; further ones wait."""

    def __post_init__(self) -> None:
        require(bool(self.models), "models: expected at least one, as in edge or model.onnx")
        require(1 <= self.max_batch <= MOST, f"--max-batch {self.max_batch}: expected 1 to {MOST:,}")
        require(1 <= self.streams <= MOST, f"--streams {self.streams}: expected 1 to {MOST:,}")


def main() -> None:
    options = parse(Options, "export.triton", __doc__)
    from runtime.support.extras import require_package

    for package in ("onnx", "tritonclient.grpc"):
        require_package(package)
    from export.triton.repository import write_models

    for line in write_models(options.models, options.out, options.max_batch, options.streams):
        print(line, flush=True)


if __name__ == "__main__":
    run(main)
