"""Export a checkpoint to ONNX: stripped, in float or INT8, for CPUs or for TensorRT, with the card that vouches for it.

python -m export.onnx runs/model/model.pt --precision fp32
python -m export.onnx runs/model/model.pt --calibration /data/ASVspoof2019/LA
python -m export.onnx runs/model/model.pt --calibration /data/ASVspoof2019/LA --target tensorrt --report --out jetson/

Writes model.onnx and model.json; of a network that was trained with --streaming its step, which takes 16 new frames and
what it remembers (export/streaming_graph.py). An INT8 model whose EER rose by more than --max-eer-rise on the development trials
is not written: exit code 3, with a table of what was lost.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from export.pipeline import Gate, Int8, Source, place, prepare
from runtime.support.command import parse, run


@dataclass(frozen=True)
class Options:
    """Export a checkpoint to ONNX."""

    source: tyro.conf.OmitArgPrefixes[Source]
    precision: Literal["fp32", "int8"] = "int8"
    """What the network computes in; int8 needs --calibration."""
    target: Literal["cpu", "tensorrt"] = "cpu"
    """cpu: U8 activations, what ONNX Runtime computes fast. tensorrt: the same integers in the S8 form it takes."""
    int8: tyro.conf.OmitArgPrefixes[Int8] = field(default_factory=Int8)
    gate: tyro.conf.OmitArgPrefixes[Gate] = field(default_factory=Gate)


def main() -> None:
    print(write(parse(Options, "export.onnx", __doc__)))


def write(options: Options) -> Path:
    """model.onnx and model.json, both or neither; returns the path of the first."""
    from export.card_writer import judge, make_card
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import Target, write_card
    from runtime.support.atomic import atomic_files

    prepared = prepare(
        options.source, options.int8, options.gate, options.precision, "uint8" if options.target == "cpu" else "int8"
    )
    scores = prepared.float_scores
    if options.precision == "int8":
        scores = prepared.scores("INT8")
    judged = judge(prepared, scores, options.precision)
    path = place(options.source, ".onnx")
    card_name = path.with_suffix(".json").name
    runs_on: Target = "any" if options.precision == "fp32" else options.target
    with atomic_files(path.parent, [path.name, card_name]) as folder:
        (folder / path.name).write_bytes(prepared.graph.SerializeToString(deterministic=True))
        card = make_card(prepared, judged, {path.name: sha256_file(folder / path.name)}, runs_on)
        write_card(folder / card_name, card)
    return path


if __name__ == "__main__":
    run(main)
