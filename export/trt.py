"""Build a TensorRT engine on the device that will run it, hold it against its ONNX file, write it with its card.

    python -m export.trt model.onnx --verification /data/LA --verification-trials 200   # on a Jetson, without torch
    python -m export.trt model.pt --calibration /data/LA                                # the ONNX file first
    python -m export.trt model.onnx --device-check                                      # what this machine has for it

Exit codes: 0 done; 2 the user can mend it; 3 the model lost too much and was not written; 4 all but the engine is done,
because TensorRT or a GPU is missing here: the message says how to get it, and the trtexec line that builds the same.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from export.pipeline import Gate, Int8, Source, place
from runtime.audio.score_times import STEP
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

if TYPE_CHECKING:
    import onnx

    from export.tensorrt.builder import Recipe
    from export.tensorrt.device import Device
    from export.verify import Engine
    from runtime.card.model_card import ModelCard, TensorRT

NO_ENGINE = 4  # exit code: all but the engine is done
MOST_STREAMS = 65_536
WORKSPACE = (1, 65_536)  # MiB
NOT_HELD = "the engine was not held against its ONNX file: no --verification corpus was given"


@dataclass(frozen=True)
class Model(Source):
    """What becomes an engine."""

    model: tyro.conf.Positional[Path]
    """A model.onnx of python -m export.onnx --target tensorrt, or a model.pt of python -m train."""


@dataclass(frozen=True)
class Options:
    """Build a TensorRT engine."""

    source: tyro.conf.OmitArgPrefixes[Model]
    precision: Literal["int8", "fp16", "fp32"] = "int8"
    """What the network computes in; int8: where the graph has Q/DQ, the rest in half; fp16, fp32 need a float graph."""
    workspace: int = 256
    """MiB that a layer may take while it runs; more is rarely faster, and a 4 GB Jetson has no more to give."""
    timing_cache: Path | None = None
    """File that keeps what was measured, so that the next build on this device takes seconds."""
    built: Path | None = None
    """Build nothing, take this engine that trtexec built here: it is held against the ONNX and gets its card."""
    streams: int = 1
    """Streams at once, at most, in an engine of a network that remembers; more than 1 are for programs of your own."""
    device_check: bool = False
    """Say what this machine has for building, and stop."""
    int8: tyro.conf.OmitArgPrefixes[Int8] = field(default_factory=Int8)
    gate: tyro.conf.OmitArgPrefixes[Gate] = field(default_factory=Gate)

    def __post_init__(self) -> None:
        if not WORKSPACE[0] <= self.workspace <= WORKSPACE[1]:
            raise ShrikeError(f"--workspace {self.workspace}: {WORKSPACE[0]} to {WORKSPACE[1]:,} MiB were expected")
        if not 1 <= self.streams <= MOST_STREAMS:
            raise ShrikeError(f"--streams {self.streams}: 1 to {MOST_STREAMS:,} were expected")
        # What shapes the network is settled in an ONNX file: an option without effect would be a lie.
        model = self.source.model
        source = self.source
        shaped = self.int8 != Int8() or source.exit != 4 or source.batch or source.frames != STEP
        if model.suffix == ".onnx" and shaped:
            raise ShrikeError(
                f"{model} is an exported network already: --exit, --batch, --frames, --calibration and what belongs to "
                "them have no effect on it; give the model.pt instead, or leave them out (--verification names trials)"
            )


@dataclass(frozen=True)
class Job:
    """One engine to build."""

    path: Path  # of the ONNX file
    graph: "onnx.ModelProto"
    card: "ModelCard"
    recipe: "Recipe"
    target: Path  # where the engine goes


def main() -> int:
    options = parse(Options, "export.trt", __doc__)
    from export.tensorrt.device import NoDeviceError, advice, find_device
    from train.progress import say

    if options.device_check:
        return check_device(options)
    job = read(options, options.source.model if options.source.model.suffix == ".onnx" else export(options))
    try:
        device = find_device()
    except NoDeviceError as reason:
        say(advice(reason, job.path, job.target, job.recipe, job.card.input, job.card.state))
        return NO_ENGINE
    print(make(options, job, device))
    return 0


def check_device(options: Options) -> int:
    """What this machine has, on stdout."""
    from export.tensorrt.device import NoDeviceError, find_device

    try:
        device = find_device()
    except NoDeviceError as reason:
        print(reason)
        return NO_ENGINE
    print("\n".join([*device.lines(), *device.warnings(options.workspace)]))
    return 0


def export(options: Options) -> Path:
    """model.pt -> model.onnx in the form that TensorRT takes, with its card."""
    from export import onnx

    precision: Literal["fp32", "int8"] = "int8" if options.precision == "int8" else "fp32"
    return onnx.write(onnx.Options(options.source, precision, "tensorrt", options.int8, options.gate))


def read(options: Options, path: Path) -> Job:
    """The graph, which TensorRT must be able to take, its card, and how it shall be built."""
    from export.tensorrt.builder import Recipe
    from export.tensorrt.check import check, is_quantised, read_onnx
    from runtime.card.model_card import read_card

    graph = read_onnx(path)
    check(graph, path.name)
    card = read_card(path)
    if is_quantised(graph) != (options.precision == "int8"):
        raise ShrikeError(
            f"{path} is quantised: build it with --precision int8, or export a float one for {options.precision}"
            if is_quantised(graph)
            else f"{path} holds no Q/DQ: build it with --precision fp16 or fp32, or quantise it first: "
            "python -m export.onnx MODEL.pt --target tensorrt --calibration CORPUS"
        )
    recipe = Recipe(options.precision, options.workspace, options.timing_cache, options.streams if card.state else 1)
    return Job(path, graph, card, recipe, place(options.source, ".engine"))


def make(options: Options, job: Job, device: "Device") -> Path:
    """Build, inspect, verify, and write engine and card; both or neither."""
    from export.tensorrt.builder import build_plan
    from export.tensorrt.check import check
    from export.tensorrt.layers import read_layers
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import TensorRT
    from runtime.engines.tensorrt import TensorRTEngine
    from train.progress import say

    recipe = job.recipe
    check(job.graph, job.path.name, device.version)
    for line in [*device.lines(), *device.warnings(recipe.workspace)]:
        say(line)
    plan = read_plan(options.built) if options.built else build_plan(device.trt, job.graph, recipe)
    with TensorRTEngine(plan, job.card, device.trt, device.cuda) as engine:
        layers = read_layers(engine.layers(device.trt))
        if recipe.precision == "int8":
            for line in layers.sentences():
                say(line)
        trials, change = hold_against(options, engine, job)
    record = TensorRT(
        version=device.version,
        gpu=device.cuda.gpu,
        capability=device.cuda.capability,
        l4t=device.l4t,
        onnx_sha256=sha256_file(job.path),
        workspace=recipe.workspace,
        precision=recipe.precision,
        not_int8=layers.floating if recipe.precision == "int8" else (),
        trials=trials,
        largest_change=change,
    )
    write(plan, record, job)
    return job.target


def write(plan: bytes, record: "TensorRT", job: Job) -> None:
    """model.engine and model.json, both or neither; beside its ONNX file the card speaks for both."""
    from runtime.card.checksums import sha256_file
    from runtime.card.model_card import write_card
    from runtime.support.atomic import atomic_files

    target, path, card = job.target, job.path, job.card
    beside = target.parent.resolve() == path.parent.resolve() and target.stem == path.stem
    notes = [note for note in card.notes if note != NOT_HELD] + ([] if record.trials else [NOT_HELD])
    with atomic_files(target.parent, [target.name, target.with_suffix(".json").name]) as folder:
        (folder / target.name).write_bytes(plan)
        files = {**(card.files if beside else {}), target.name: sha256_file(folder / target.name)}
        finished = replace(card, target="tensorrt", files=files, tensorrt=record, notes=tuple(notes))
        write_card(folder / target.name, finished)


def read_plan(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ShrikeError(f"--built {path} cannot be read: {error.strerror}{nearby(path)}") from error


def hold_against(options: Options, engine: "Engine", job: Job) -> tuple[int, float | None]:
    """How many trials went through engine and ONNX, and the largest change of a score; Rejected if it is worse."""
    from export import verify
    from runtime.engines.onnx import open_onnx
    from train.progress import say

    gate = options.gate
    corpus = gate.verification or options.int8.calibration
    if corpus is None:
        say(f"warning: {NOT_HELD}")
        return 0, None
    state = job.card.state
    trials = gate.read_trials(job.card.frontend, corpus, options.source.cache, state.frames if state else None)
    with open_onnx(job.path) as reference:
        before = trials.scores(_scored(reference), "ONNX")
    after = trials.scores(_scored(engine), "engine")
    comparison = verify.compare(before, after, trials.labels, gate.asv, gate.bootstrap, trials.windows)
    faults = comparison.faults(gate.limits)
    verify.show(comparison, faults, ("ONNX", "engine"))
    if faults:
        raise verify.Rejected(
            comparison, faults, f"{job.path} is untouched; a float one can be built with --precision fp16"
        )
    return comparison.trials, comparison.largest_change


def _scored(engine: "Engine") -> "Engine":
    """What trials are given to: the engine itself, or whole clips step by step where it remembers."""
    from export.streaming_eval import by_steps
    from runtime.engines import as_streaming

    remembers = as_streaming(engine)  # type: ignore[arg-type]
    return by_steps(remembers) if remembers else engine


if __name__ == "__main__":
    run(main)
