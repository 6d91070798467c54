"""An ONNX file and its card -> engine and card: build, inspect, verify, write.

job = read_job(Path("model.onnx"), Path("model.engine"), BuildOptions("int8", 256))
path = build_engine(job, find_device(), None, GateOptions(), corpus, cache)   # raises Rejected if the engine is worse
"""

import time
from dataclasses import replace
from pathlib import Path

from export import verify
from export.options import GateOptions
from export.streaming_eval import by_steps
from export.tensorrt.builder import BuildJob, BuildOptions, build_plan, check_precision
from export.tensorrt.check import check, read_onnx
from export.tensorrt.device import BuildDevice
from export.tensorrt.layers import read_layers
from runtime.card.checksums import sha256_file
from runtime.card.model_card import ANY_BATCH, TensorRT, read_card, write_card
from runtime.engines.tensorrt import TensorRTEngine
from runtime.support.atomic import atomic_files
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby
from train.progress import say

UNVERIFIED = "the engine was not compared with its ONNX file: no --verification corpus was given"


def read_job(path: Path, target: Path, build: BuildOptions) -> BuildJob:
    """Read an ONNX file and its card; refuse a graph that TensorRT cannot take or that does not fit the precision."""
    graph = read_onnx(path)
    check(graph, path.name)
    card = read_card(path)
    check_precision(graph, build)
    dynamic = card.input.shape[0] == ANY_BATCH
    return BuildJob(path, graph, card, build if dynamic else replace(build, streams=1), target)


def build_engine(
    job: BuildJob, device: BuildDevice, built: Path | None, gate: GateOptions, corpus: Path | None, cache: Path
) -> Path:
    """Build an engine (or take `built`), inspect and verify it, and write it with its card; both or neither."""
    build = job.build
    check(job.graph, job.path.name, device.version)
    for line in [*device.lines(), *device.warnings(build.workspace)]:
        say(line)
    plan = _read_plan(built) if built else _build(job, device)
    with TensorRTEngine(plan, job.card, device.trt, device.cuda) as engine:
        layers = read_layers(engine.layers(device.trt))
        if build.precision == "int8":
            for line in layers.report():
                say(line)
        comparison = None if corpus is None else _compare(job, engine, gate, corpus, cache)
    note = UNVERIFIED if comparison is None else comparison.note
    if comparison is None:
        say(f"warning: {UNVERIFIED}")
    record = TensorRT(
        version=device.version,
        gpu=device.cuda.gpu,
        capability=device.cuda.capability,
        l4t=device.l4t,
        onnx_sha256=sha256_file(job.path),
        workspace=build.workspace,
        precision=build.precision,
        not_int8=layers.floating if build.precision == "int8" else (),
        trials=comparison.accuracy.trials if comparison else 0,
        largest_change=comparison.accuracy.largest_change if comparison else None,
    )
    _write(plan, record, job, note)
    return job.target


def _build(job: BuildJob, device: BuildDevice) -> bytes:
    cached = job.build.timing_cache
    faster = "" if cached and cached.is_file() else "; --timing-cache FILE makes the next build take seconds"
    say(f"building for {job.build.precision}: TensorRT times every layer, which takes minutes{faster}")
    began = time.monotonic()
    plan = build_plan(device.trt, job.graph, job.build)
    say(f"built in {time.monotonic() - began:.0f} s: {len(plan) / 1e6:.1f} MB")
    return plan


def _write(plan: bytes, record: TensorRT, job: BuildJob, note: str | None) -> None:
    """Write model.engine and model.json; in the ONNX file's folder the card lists both files."""
    target, path, card = job.target, job.path, job.card
    beside = target.parent.resolve() == path.parent.resolve() and target.stem == path.stem
    notes = [entry for entry in card.notes if entry != UNVERIFIED] + ([note] if note else [])
    with atomic_files(target.parent, [target.name, target.with_suffix(".json").name]) as folder:
        (folder / target.name).write_bytes(plan)
        files = {**(card.files if beside else {}), target.name: sha256_file(folder / target.name)}
        finished = replace(card, target="tensorrt", files=files, tensorrt=record, notes=tuple(notes))
        write_card(folder / target.name, finished)


def _read_plan(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ShrikeError(f"--built {path} cannot be read: {error.strerror}{nearby(path)}") from error


def _compare(job: BuildJob, engine: TensorRTEngine, gate: GateOptions, corpus: Path, cache: Path) -> verify.Comparison:
    """Run the trials through engine and ONNX file; raise Rejected if the engine is worse."""
    from runtime.engines.onnx import open_onnx

    state = job.card.state
    trials = verify.read_trials(gate, job.card.frontend, corpus, cache, state.frames if state else None)
    with open_onnx(job.path) as reference:
        before = trials.scores(by_steps(reference), "ONNX")
    after = trials.scores(by_steps(engine), "engine")
    comparison = verify.compare(before, after, trials.labels, gate, trials.windows, trials.name)
    verify.show(comparison, comparison.faults, ("ONNX", "engine"))
    if comparison.faults:
        advice = f"{job.path} is unchanged; a float one can be built with --precision fp16"
        raise verify.Rejected(comparison, comparison.faults, advice)
    return comparison
