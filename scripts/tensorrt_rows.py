"""Measurements of one TensorRT engine, for scripts.tensorrt_report: agreement with ONNX Runtime, and times.

    row = measure_one(folder, Job("edge", "int8", 1), plan, duration=0.5)       # an engine for one window or stream
    row = measure_batch(folder, Job("edge", "int8", 256), plan, duration=0.5)   # an engine for 1 to 256

`folder` is that of scripts.tensorrt_trials.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.stats import Case, Times, measure
from export.graph import score
from export.tensorrt.layers import read_layers
from runtime.audio.features import FrontEnd
from runtime.card.model_card import ModelCard, Precision, read_card
from runtime.engines import Engine, as_streaming, initial_states
from runtime.engines.cuda import CudaError, open_cuda
from runtime.engines.jetpack import load_tensorrt
from runtime.engines.tensorrt import TensorRTEngine
from runtime.support.errors import ShrikeError
from runtime.verdict import BONAFIDE

UNITS = 8  # of stored log power in one
CHUNK = 8  # windows in a call of ONNX Runtime
RUNS = 100  # timed by the GPU's events
ROUNDS = 4  # of batches
CASES = {"graph": ("cuda", True), "no graph": ("cuda", False), "PyCUDA": ("pycuda", False)}  # library, CUDA graph

Floats = NDArray[np.float32]


class Job(NamedTuple):
    """One engine."""

    model: str
    precision: Precision
    streams: int  # largest batch

    @property
    def name(self) -> str:
        return f"{self.model}-{self.precision}" + (f"-batch{self.streams}" if self.streams > 1 else "")

    def onnx(self, folder: Path) -> Path:
        return folder / f"{self.model}-{'int8' if self.precision == 'int8' else 'float'}.onnx"


def trials_path(folder: Path, frontend: FrontEnd) -> Path:
    """File of the trials' windows; the level is part of the graph and does not matter."""
    return folder / f"trials-{frontend.shape}-{frontend.bands}.npy"


def read_windows(folder: Path, frontend: FrontEnd) -> Floats:
    """Windows (n, 1, bands, frames) of the trials."""
    return np.load(trials_path(folder, frontend)).astype(np.float32) / UNITS


def logits_path(model: Path) -> Path:
    return model.with_suffix(".logits.npy")


def run_trials(engine: Engine, windows: Floats, most: int = CHUNK) -> Floats:
    """Logits (n, 2) of windows, or (n, steps, 2) of a streaming model from its initial states."""
    if (streaming := as_streaming(engine)) is None:
        return np.concatenate([engine(windows[at : at + most]) for at in range(0, len(windows), most)])
    states, found, frames = initial_states(streaming.state, len(windows)), [], streaming.state.frames
    for start in range(0, windows.shape[-1] - frames + 1, frames):
        logits, states = streaming.step(np.ascontiguousarray(windows[..., start : start + frames]), states)
        found.append(logits)
    return np.stack(found, axis=1)


def measure_one(
    folder: Path, job: Job, plan: bytes, duration: float, cases: Sequence[str] = tuple(CASES)
) -> dict[str, Any]:
    """Agreement and latency of an engine for one window or stream; the first case is that with a CUDA graph."""
    row: dict[str, Any] = {}
    with ExitStack() as stack:
        engine = _open(folder, job, plan, "graph", stack)
        row |= _agreement(folder, job, engine)
        row["layers"] = _count_layers(engine)
        engines = {"graph": engine}
        for name in cases[1:]:
            try:
                engines[name] = _open(folder, job, plan, name, stack)
            except ShrikeError as error:
                row[f"{name}: error"] = str(error)
        window = read_windows(folder, engine.card.frontend)[:1]
        calls = {name: _call(opened, window) for name, opened in engines.items()}
        timed = [Case(name, call) for name, call in calls.items()]
        for case, times in zip(timed, measure(timed, duration), strict=True):
            row[case.name] = _milliseconds(times)
        row["captured"] = engine.graph
        frames = engine.state.frames if engine.state else window.shape[-1]
        device = engine.device_times(np.ascontiguousarray(window[..., :frames]), RUNS)
        row["GPU"] = {name: float(np.median(values)) for name, values in device.milliseconds.items()}
        results = [np.concatenate([np.ravel(values) for values in call()]) for call in calls.values()]
        row["largest difference of cases"] = max(float(np.abs(values - results[0]).max()) for values in results)
    return row


def measure_batch(folder: Path, job: Job, plan: bytes, duration: float) -> dict[str, Any]:
    """Agreement and throughput of an engine for a batch, and agreement again after batches of other sizes."""
    with ExitStack() as stack:
        engine = _open(folder, job, plan, "graph", stack)
        row = _agreement(folder, job, engine)
        windows = read_windows(folder, engine.card.frontend)
        counts = [4**power for power in range(9) if 4**power < engine.batch] + [engine.batch]
        cases = [Case(str(n), _call(engine, windows[np.arange(n) % len(windows)])) for n in counts]
        row["batches"] = {
            case.name: _milliseconds(times) | {"per second": int(case.name) / times.median}
            for case, times in zip(cases, measure(cases, duration, rounds=ROUNDS), strict=True)
        }
        row["captured"] = engine.graph
        row["largest difference again"] = _agreement(folder, job, engine)["largest difference"]
    return row


def _open(folder: Path, job: Job, plan: bytes, case: str, stack: ExitStack) -> TensorRTEngine:
    library, graph = CASES[case]
    cuda: Any = open_cuda(library)
    if not graph:
        cuda.capture = _refuse
    return stack.enter_context(TensorRTEngine(plan, read_card(job.onnx(folder)), load_tensorrt(), cuda))


def _count_layers(engine: TensorRTEngine) -> dict[str, int] | None:
    """Count layers with weights; None where the inspector does not list them."""
    try:
        layers = read_layers(engine.layers(load_tensorrt()))
    except ShrikeError:
        return None
    return {"int8": len(layers.integer), "float": len(layers.floating), "opaque": len(layers.opaque)}


def _refuse(work: object) -> None:
    raise CudaError("no graph: this case launches one by one")


def _agreement(folder: Path, job: Job, engine: TensorRTEngine) -> dict[str, Any]:
    """Compare the logits of all trials with ONNX Runtime's, and those of INT8 with the float model's."""
    path, card = job.onnx(folder), engine.card
    expected = np.load(logits_path(path))
    found = run_trials(engine, read_windows(folder, card.frontend), max(engine.batch, CHUNK))
    decisions = [score_of(logits) > card.score.threshold for logits in (found, expected)]
    row = {
        "trials": len(found),
        "largest difference": float(np.abs(found - expected).max()),
        "mean difference": float(np.abs(found - expected).mean()),
        "largest logit": float(np.abs(expected).max()),
        "same decision": float(np.mean(decisions[0] == decisions[1])),
        "same state": float(np.mean(_states(card, found) == _states(card, expected))),
    }
    other = logits_path(folder / f"{job.model}-float.onnx")
    if job.precision == "int8" and other.is_file():
        whole = np.load(other)
        row["float file: largest difference"] = float(np.abs(found - whole).max())
        row["float file: largest difference of ONNX Runtime's INT8"] = float(np.abs(expected - whole).max())
    return row


def score_of(logits: Floats) -> NDArray[np.float64]:
    """Scores (...) of logits (..., 2)."""
    return score(logits.reshape(-1, 2)).reshape(logits.shape[:-1])


def _states(card: ModelCard, logits: Floats) -> NDArray[np.int64]:
    """1 bona fide, -1 spoof, 0 unsure: P(spoof) of each score, equal priors, the operating point of the card."""
    spoof = 1 / (1 + np.exp(card.score.scale * score_of(logits) + card.score.offset))
    return np.where(spoof >= card.score.sure, -1, np.where(spoof <= BONAFIDE, 1, 0))


def _call(engine: TensorRTEngine, windows: Floats) -> Callable[[], list[Floats]]:
    """A call with these windows, or with their first frames of a streaming model; all its results."""
    if engine.state is None:
        return lambda: [engine(windows)]
    frames = np.ascontiguousarray(windows[..., : engine.state.frames])
    return partial(_flat_step, engine, frames, initial_states(engine.state, len(frames)))


def _flat_step(engine: TensorRTEngine, frames: Floats, states: list[Any]) -> list[Floats]:
    logits, after = engine.step(frames, states)
    return [logits, *after]


def _milliseconds(times: Times) -> dict[str, float]:
    return {"p50": 1000 * times.median, "p99": 1000 * times.percentile(99), "runs": len(times.sorted)}
