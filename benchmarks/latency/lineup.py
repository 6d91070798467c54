"""The cases of a latency run: every model, form, thread count and batch, opened and ready to take turns.

Everything is opened before anything is timed, and each model's memory is measured in a process of its own before that.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks import host
from benchmarks.cases import Subject, multiply_adds, open_bare, resolve, unique
from benchmarks.host.watch import PowerMeter
from benchmarks.report import Cell, Measured
from benchmarks.stats import Case, Times, run_for
from runtime.audio.features import PRESETS, FeatureStream, FrontEnd, Samples
from runtime.audio.framer import STEP
from runtime.audio.ring_buffer import RingBuffer
from runtime.card.model_card import ANY_BATCH
from runtime.card.schema import require
from runtime.engines import Engine, as_streaming
from runtime.scorer import StreamScorer
from runtime.support.errors import ShrikeError
from runtime.support.measure import resident
from train.data.processes import in_processes
from train.progress import say

if TYPE_CHECKING:
    from benchmarks.latency.__main__ import Options

KINDS = {"float": "float32", "double": "float64"}  # numpy's name by ONNX's, where they differ
LARGEST_INPUT = 1 << 28  # values: a wrong --peer-shape should not fill the memory

Shapes = Mapping[str, Sequence[int]]

STEPS = 150  # of noise, 15 to 20 s, that are repeated
PEER = "peer"  # form of another project's model

Part = Literal["features", "network", "step", "bare"]


@dataclass(frozen=True)
class Peer:
    """A session of ONNX Runtime with inputs: noise for floats, 0 and 1 for integers (tokens, kinds, masks)."""

    session: Any
    feeds: dict[str, NDArray[Any]]

    def run(self) -> object:
        return self.session.run(None, self.feeds)


def open_peer(path: Path, threads: int = 1, batch: int = 1, shapes: Shapes | None = None) -> Peer:
    """Open any ONNX file and run it once. Open sizes are `shapes`, else 1, and `batch` in front."""
    peer, shapes, rng = Peer(open_bare(path, threads), {}), shapes or {}, np.random.default_rng(0)
    ports = {port.name: port for port in peer.session.get_inputs()}
    for odd in sorted(set(shapes) - ports.keys()):
        raise ShrikeError(f"--peer-shape {odd}: {path.name} has no such input; it has {', '.join(ports)}")
    for name, port in ports.items():
        kind = port.type.removeprefix("tensor(").removesuffix(")")
        known = re.fullmatch(r"float(16)?|double|bool|u?int\d+", kind)
        require(bool(known), f"{path.name}: input {name} is {port.type}; expected tensors of numbers")
        sizes = [size if isinstance(size, int) and size > 0 else None for size in port.shape]
        wanted = list(shapes.get(name, [size or 1 for size in sizes]))
        fits = len(wanted) == len(sizes) and all(size in (None, w) for size, w in zip(sizes, wanted, strict=True))
        given = "x".join(map(str, wanted))
        require(fits and math.prod(wanted) <= LARGEST_INPUT, f"--peer-shape {name}={given}: expected {port.shape}")
        if batch > 1 and wanted:
            require(sizes[0] is None, f"{path.name}: its batch is fixed at {sizes[0]}")
            wanted[0] = batch
        integers = "int" in kind or kind == "bool"
        values = rng.integers(0, 2, wanted) if integers else rng.standard_normal(wanted)
        peer.feeds[name] = np.asarray(values).astype(KINDS.get(kind, kind))
    try:
        peer.run()
    except Exception as error:  # ONNX Runtime's exceptions share no other base
        fed, reason = {name: list(value.shape) for name, value in peer.feeds.items()}, str(error).partition("\n")[0]
        raise ShrikeError(f"{path.name}: fails on {fed} ({reason}); give --peer-shape NAME=1x64600") from error
    return peer


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """("audio", (1, 64600)) of audio=1x64600."""
    name, _, sizes = text.rpartition("=")
    fits = name and re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", sizes)
    require(bool(fits), f"--peer-shape {text}: expected NAME=1x64600")
    return name, tuple(map(int, sizes.split("x")))


def footprint(subject: Subject | Path, shapes: Shapes | None = None) -> float | None:
    """MB resident of a fresh process that loaded a model, or a peer's file, and ran it once; None where unknown."""
    path = subject if isinstance(subject, Path) else subject.path
    with closing(in_processes(partial(_load_and_run, dict(shapes or {})), [subject], 1, f"ran {path}")) as results:
        return next(results)[1]


def _load_and_run(shapes: Shapes, subject: Subject | Path) -> float | None:
    if isinstance(subject, Path):
        open_peer(subject, shapes=shapes)
        return resident()
    engine = subject.open()
    if (streaming := as_streaming(engine)) is not None:
        streaming.batch_buffers(1).run(1)
    else:
        engine(np.zeros((1, 1, subject.frontend.bands, subject.frontend.width), np.float32))
    return resident()


@dataclass
class Entry:
    """A case and its row in the tables."""

    model: str
    form: str
    part: Part
    batch: int
    threads: int
    case: Case
    subject: Subject | None = None  # None: a peer, or features
    times: Times = field(default_factory=lambda: Times(()))  # once measured
    joules: float | None = None  # of a step beyond the idle machine

    @property
    def row(self) -> dict[str, Cell]:
        return {"model": self.model, "form": self.form, "threads": self.threads}

    @property
    def median(self) -> Measured:
        """ms, with the medians of the rounds."""
        return Measured(1000 * self.times.median, rounds=tuple(round(1000 * value, 6) for value in self.times.medians))

    @property
    def on_cpu(self) -> bool:
        """True if processor time is the cost of a call."""
        return bool(self.times.cpu) and min(self.times.cpu) > 0 and not self.form.startswith("TensorRT")

    @property
    def cost(self) -> tuple[float, ...]:
        return self.times.cpu if self.on_cpu else self.times.medians

    @property
    def streaming(self) -> bool:
        return self.subject is not None and self.subject.frames is not None

    @property
    def frames(self) -> int:
        """New frames of a call."""
        return (self.subject.frames if self.subject else None) or STEP


@dataclass
class Lineup:
    """All cases of a run."""

    entries: list[Entry] = field(default_factory=list)
    engines: list[Engine] = field(default_factory=list)
    memory: dict[tuple[str, str], float | None] = field(default_factory=dict)  # MB by model and form
    sizes: dict[tuple[str, str], float] = field(default_factory=dict)  # MB of the file
    work: dict[tuple[str, str], int | None] = field(default_factory=dict)  # multiply-adds of a call
    inputs: dict[str, str] = field(default_factory=dict)  # of peers
    notes: list[str] = field(default_factory=list)

    def add(self, model: str, form: str, part: Part, batch: int, threads: int, call: Any, subject: Any = None) -> None:
        case = Case(f"{part} {model} {form}, threads {threads}, batch {batch}", call)
        self.entries.append(Entry(model, form, part, batch, threads, case, subject))

    def find(self, part: Part, **like: Cell) -> Entry | None:
        """The first entry of this part with these attributes, in a batch of 1."""
        there = (entry for entry in self.entries if entry.part == part and entry.batch == 1)
        return next((entry for entry in there if entry.row.items() >= like.items()), None)


def line_up(options: "Options", folder: Path) -> Lineup:
    """Export, weigh and open everything that was named."""
    shapes = dict(map(parse_shape, options.peer_shape))
    batches, threads = sorted({1, *options.batch}), sorted(set(options.threads))
    lineup, subjects = Lineup(), list[Subject]()
    for path in options.peer:  # fail before anything takes long
        open_peer(path, shapes=shapes)
    for number, name in enumerate(options.models):
        say(f"preparing {name}")
        subjects += resolve(name, options.forms, folder / str(number), options.frontend, batches[-1], options.exit)
    for frontend in dict.fromkeys(replace(subject.frontend, level="none") for subject in subjects):
        lineup.add(frontend_name(frontend), "front-end", "features", 1, 1, features_part(frontend))
    say("measuring memory, each model in a process of its own")
    for subject in unique(subjects):
        key = subject.model, subject.form
        lineup.memory[key], lineup.sizes[key] = footprint(subject), subject.path.stat().st_size / 1e6
        lineup.work[key] = multiply_adds(subject.path) if subject.path.suffix == ".onnx" else None
        lineup.notes += [note for note in subject.notes if note not in lineup.notes]
        for count in threads[:1] if subject.form.startswith("TensorRT") else threads:
            add_subject(lineup, subject, count, batches, options.check_bare)
    for path in options.peer:
        key = path.stem, PEER
        lineup.memory[key], lineup.sizes[key] = footprint(path, shapes), path.stat().st_size / 1e6
        for count, batch in itertools.product(threads, batches):
            add_peer(lineup, path, count, batch, shapes)
    return lineup


def add_subject(lineup: Lineup, subject: Subject, threads: int, batches: list[int], bare: bool) -> None:
    """Its network with every batch, its step, and ONNX Runtime's bare loop."""
    engine, add = subject.open(threads), partial(lineup.add, subject.model, subject.form, subject=subject)
    lineup.engines.append(engine)
    for batch in batches:
        if batch == 1 or subject.batch == ANY_BATCH:
            add("network", batch, threads, network_part(engine, subject.frontend, batch))
        else:
            lineup.notes.append(f"{subject.model}: its batch is fixed at 1; --batch {batch} was not measured")
    add("step", 1, threads, step_part(engine, subject.frontend))
    if bare and subject.path.suffix == ".onnx" and subject.frames is None:
        session = open_bare(subject.path, threads)
        feeds = {session.get_inputs()[0].name: windows(subject.frontend, 1)}
        add("bare", 1, threads, partial(session.run, None, feeds))


def add_peer(lineup: Lineup, path: Path, threads: int, batch: int, shapes: Shapes) -> None:
    try:
        peer = open_peer(path, threads, batch, shapes)
    except ShrikeError as error:
        lineup.notes.append(f"--batch {batch} was not measured: {error}")
        return
    fed = (f"{name} {'x'.join(map(str, value.shape))} {value.dtype}" for name, value in peer.feeds.items())
    lineup.inputs.setdefault(path.stem, ", ".join(fed))
    lineup.add(path.stem, PEER, "network", batch, threads, peer.run)


def frontend_name(frontend: FrontEnd) -> str:
    plain = replace(frontend, level="none")  # the graph subtracts the level
    named = (name for name, preset in PRESETS.items() if preset == plain)
    return next(named, f"{frontend.bands} {frontend.shape}, {frontend.window} samples")


# ---- what is timed


def noise(frontend: FrontEnd, frames: int, streaming: bool = False) -> tuple[Samples, Iterator[Samples]]:
    """Samples that fill a window, and endless samples of steps; a streaming model counts steps from the first frame."""
    full = frontend.width // frames * frames if streaming else frontend.width
    first, chunk = (full - 1) * frontend.hop + frontend.window, frames * frontend.hop
    samples = (0.05 * np.random.default_rng(0).standard_normal(first + STEPS * chunk)).astype(np.float32)
    return samples[:first], itertools.cycle(samples[first:].reshape(STEPS, chunk))


def features_part(frontend: FrontEnd) -> Callable[[], Any]:
    """Samples of a step to a window, without the network."""
    (first, chunks), stream = noise(frontend, STEP), FeatureStream(frontend)
    window = RingBuffer(frontend.bands, frontend.width)
    window.push(stream.push(first))

    def step() -> Any:
        window.push(stream.push(next(chunks)))
        return window.view

    return step


def network_part(engine: Engine, frontend: FrontEnd, batch: int = 1) -> Callable[[], Any]:
    """The engine's call on windows, or on new frames of a streaming model."""
    if (streaming := as_streaming(engine)) is None:
        return partial(engine, windows(frontend, batch))
    buffers = streaming.batch_buffers(batch)
    buffers.features[:] = windows(frontend, batch)[..., : streaming.state.frames]
    return partial(buffers.run, batch)


def step_part(engine: Engine, frontend: FrontEnd) -> Callable[[], float]:
    """runtime.scorer from samples to one score, its window full."""
    streaming, scorer = as_streaming(engine), StreamScorer(engine, frontend)
    first, chunks = noise(frontend, streaming.state.frames if streaming else STEP, streaming is not None)
    scorer.push(first)
    return lambda: scorer.push(next(chunks))[0].value


def windows(frontend: FrontEnd, batch: int) -> Any:
    """Neighbouring windows of the noise, (batch, 1, bands, frames)."""
    part = features_part(frontend)
    return np.stack([np.array(part()) for _ in range(batch)])[:, None]


def measure_energy(lineup: Lineup, seconds: float) -> None:
    """J of each step beyond an idle machine's; left out where power cannot be read."""
    for entry in [found for found in lineup.entries if found.part == "step"] if PowerMeter().name else ():
        say(f"energy of {entry.case.name}")
        with host.Watch(idle_s=3.0) as watch:
            count = len(run_for(entry.case.run, seconds))
        joules = watch.energy()
        entry.joules = None if joules is None else joules / count
