"""Build a TensorRT engine on the device that will run it, compare it with its ONNX file, and write it with its card.

    python -m export.trt model.onnx --verification /data/LA --verification-trials 200   # on a Jetson, without torch
    python -m export.trt model.pt --calibration /data/LA                                # export the ONNX file first
    python -m export.trt --device-check                                                 # show this machine's TensorRT

Exit codes: 0 done; 2 an error that you can fix; 3 the model lost too much and was not written; 4 the ONNX file is
ready, but TensorRT or a GPU is missing here: the message says how to get it, with the equivalent trtexec command.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from export.options import GateOptions, Int8Options, ModelOptions
from export.options import Precision as OnnxPrecision
from runtime.audio.score_times import STEP
from runtime.card.model_card import Precision
from runtime.card.schema import require
from runtime.support.command import parse, run
from runtime.support.extras import require_package

NO_ENGINE = 4  # exit code: no TensorRT or no GPU
MOST_STREAMS = 65_536
WORKSPACE, DEFAULT_WORKSPACE = (1, 65_536), 256  # MiB


@dataclass(frozen=True)
class Options:
    """Build a TensorRT engine."""

    source: tyro.conf.OmitArgPrefixes[ModelOptions]
    precision: Precision = "int8"
    """What the network computes in; int8: where the graph has Q/DQ, FP16 elsewhere; fp16, fp32: a float graph."""
    workspace: int = DEFAULT_WORKSPACE
    """MiB of scratch memory that a layer may take; a 4 GB Jetson has no more to spare."""
    timing_cache: Path | None = None
    """File with the timings of earlier builds on this device; makes the next build take seconds."""
    built: Path | None = None
    """Engine that trtexec built here; it is verified and gets its card instead of a new build."""
    streams: int = 1
    """Largest batch of streams or windows, for programs with many; needs an ONNX file with a dynamic batch."""
    device_check: bool = False
    """Show TensorRT, GPU and free memory of this machine, and exit; alone, it needs no MODEL."""
    int8: tyro.conf.OmitArgPrefixes[Int8Options] = field(default_factory=Int8Options)
    gate: tyro.conf.OmitArgPrefixes[GateOptions] = field(default_factory=GateOptions)

    def __post_init__(self) -> None:
        least, most = WORKSPACE
        require(least <= self.workspace <= most, f"--workspace {self.workspace}: expected {least} to {most:,} MiB")
        require(1 <= self.streams <= MOST_STREAMS, f"--streams {self.streams}: expected 1 to {MOST_STREAMS:,}")
        # An ONNX file has its shape already: an option without effect is an error.
        source = self.source
        shaped = self.int8 != Int8Options() or source.exit or source.fuse or source.batch or source.frames != STEP
        require(
            not (shaped and source.model.suffix == ".onnx"),
            f"{source.model} is exported already: --exit, --batch, --frames, --calibration and its options have no "
            "effect on it; give the model.pt, or leave them out (--verification names trials)",
        )


def main() -> int:
    if sys.argv[1:] == ["--device-check"]:  # alone, it needs no MODEL
        return check_device()
    options = parse(Options, "export.trt", __doc__)
    if options.device_check:
        return check_device(options.workspace)
    require_package("onnx")  # a device may lack it, and the modules below import it
    from export.tensorrt.builder import BuildOptions
    from export.tensorrt.device import NoDeviceError, advice, find_device
    from export.tensorrt.engine_writer import build_engine, read_job
    from train.progress import say

    source = options.source
    build = BuildOptions(options.precision, options.workspace, options.timing_cache, options.streams)
    path = source.model
    if path.suffix != ".onnx":
        from export.pipeline import export_onnx

        form: OnnxPrecision = "int8" if options.precision == "int8" else "fp32"
        path = export_onnx(source, form, "tensorrt", options.int8, options.gate)
    job = read_job(path, source.output_path(".engine"), build)
    try:
        device = find_device()
    except NoDeviceError as reason:
        say(advice(reason, job))
        return NO_ENGINE
    corpus = options.gate.verification or options.int8.calibration
    print(build_engine(job, device, options.built, options.gate, corpus, source.cache))
    return 0


def check_device(workspace: int = DEFAULT_WORKSPACE) -> int:
    """Print what this machine has."""
    from export.tensorrt.device import NoDeviceError, find_device
    from runtime.engines.cuda import installed

    try:
        device = find_device()
    except NoDeviceError as reason:
        print(f"{reason}\n{installed()}")
        return NO_ENGINE
    print("\n".join([*device.lines(), *device.warnings(workspace)]))
    return 0


if __name__ == "__main__":
    run(main)
