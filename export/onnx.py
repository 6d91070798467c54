"""Export a checkpoint to ONNX, in float or INT8, for CPUs or for TensorRT, with its card.

    python -m export.onnx runs/model/model.pt --precision fp32
    python -m export.onnx runs/model/model.pt --calibration /data/ASVspoof2019/LA
    python -m export.onnx runs/model/model.pt --calibration /data/ASVspoof2019/LA --target tensorrt --out jetson/

Writes model.onnx and model.json. A streaming model's graph is one step: 16 new frames and its states go in, logits and
the next states come out. An INT8 model whose EER rises by more than --max-eer-rise on the development trials is not
written; the exit code is 3, and a table shows the loss.
"""

from dataclasses import dataclass, field
from typing import Literal

import tyro

from export.options import GateOptions, Int8Options, ModelOptions, Precision
from runtime.support.command import parse, run


@dataclass(frozen=True)
class Options:
    """Export a checkpoint to ONNX."""

    source: tyro.conf.OmitArgPrefixes[ModelOptions]
    precision: Precision = "int8"
    """What the network computes in; int8 needs --calibration."""
    target: Literal["cpu", "tensorrt"] = "cpu"
    """cpu: U8 activations, fast in ONNX Runtime; tensorrt: the same integers as S8."""
    int8: tyro.conf.OmitArgPrefixes[Int8Options] = field(default_factory=Int8Options)
    gate: tyro.conf.OmitArgPrefixes[GateOptions] = field(default_factory=GateOptions)


def main() -> None:
    options = parse(Options, "export.onnx", __doc__)
    from export.pipeline import export_onnx

    print(export_onnx(options.source, options.precision, options.target, options.int8, options.gate))


if __name__ == "__main__":
    run(main)
