"""Who takes part in a run of benchmarks.latency: every model and form as cases that can take turns.

    lineup = line_up(options, folder, say)
    times = measure([entry.case for entry in lineup.entries])
    lineup.energy(3.0, say), lineup.gpu_times()             # afterwards: neither may disturb the clock
    lineup.close()

Everything is opened before anything is timed, and each model's memory is taken in a process of its own before that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from benchmarks.footprint import footprint, peer_footprint
from benchmarks.forms import Subject, resolve, unique
from benchmarks.peers import open_bare, open_peer, parse_shape
from benchmarks.steps import features_part, network_part, step_part, windows
from benchmarks.timing import Case, repeat
from benchmarks.work import multiply_adds
from runtime.audio.features import FrontEnd
from runtime.engines import Engine
from runtime.support.errors import ShrikeError

if TYPE_CHECKING:
    from benchmarks.latency import Options
    from runtime.engines.tensorrt import DeviceTimes

Part = Literal["features", "network", "step", "bare"]
Say = Callable[[str], object]
PEER = "peer"  # the form of a foreign model
GPU_RUNS = 100  # of an engine, with the GPU's own clock
IDLE = 3.0  # s of idle machine before the energy of a model is read


@dataclass(frozen=True)
class Entry:
    """One case, and where its times go in the tables."""

    model: str
    form: str
    part: Part
    batch: int
    threads: int
    case: Case


@dataclass
class Lineup:
    """All that takes part."""

    subjects: list[Subject]
    peers: list[tuple[str, Path]]  # label and file
    entries: list[Entry] = field(default_factory=list)
    memory: dict[tuple[str, str], float | None] = field(default_factory=dict)  # MB by model and form
    sizes: dict[tuple[str, str], float] = field(default_factory=dict)  # MB of the file
    remarks: dict[str, list[str]] = field(default_factory=dict)  # sentence -> whom it is about
    fed: dict[str, str] = field(default_factory=dict)  # what a peer's inputs were, in words
    engines: list[tuple[Subject, Engine]] = field(default_factory=list)
    work: dict[tuple[str, str], int | None] = field(default_factory=dict)  # multiply-adds of a call, where a graph says

    def add(self, model: str, form: str, part: Part, batch: int, threads: int, case: Case) -> None:
        self.entries.append(Entry(model, form, part, batch, threads, case))

    def note(self, about: str, sentence: str) -> None:
        """For the reader of the report: once, with all whom it concerns."""
        names = self.remarks.setdefault(sentence, [])
        if about not in names:
            names.append(about)

    @property
    def notes(self) -> list[str]:
        return [f"{', '.join(names)}: {sentence}" for sentence, names in self.remarks.items()]

    def close(self) -> None:
        for _, engine in self.engines:
            engine.close()

    def energy(self, machine: dict[str, Any], seconds: float, say: Say) -> dict[tuple[str, str, int], float]:
        """J of a step beyond an idle machine's, by model, form and threads; nothing where power cannot be read."""
        from benchmarks import host

        source, found = str(machine["power"]["source"]), {}
        if not host.known(source):
            self.note("energy", source)
            return {}
        for entry in self.entries:
            if entry.part != "step":
                continue
            say(f"energy of {entry.case.name}")
            entry.case.prepare()
            with host.Watch(idle_s=IDLE) as watch:
                count = repeat(entry.case.run, seconds)
            spent = watch.energy_per(count)
            if isinstance(spent, str):
                self.note(f"energy of {entry.model} {entry.form}", spent)
            else:
                found[entry.model, entry.form, entry.threads] = spent
        return found

    def gpu_times(self) -> list[tuple[Subject, "DeviceTimes"]]:
        """What the GPU's own clock says, for the engines that have one."""
        found = []
        for subject, engine in self.engines:
            if hasattr(engine, "device_times"):
                features = windows(subject.frontend, 1)[..., : subject.frames]
                found.append((subject, engine.device_times(np.ascontiguousarray(features), GPU_RUNS)))
        return found


def line_up(options: "Options", folder: Path, say: Say) -> Lineup:
    """Resolve, export, weigh and open all that was named."""
    shapes = dict(map(parse_shape, options.peer_shape))
    batches, threads = sorted({1, *options.batch}), sorted(set(options.threads))
    subjects = []
    for number, name in enumerate(options.models):
        say(f"preparing {name}")
        subjects += resolve(name, options.forms, folder / str(number), options.frontend, batches)
    lineup = Lineup(unique(subjects), _labelled(options.peer))
    for subject in lineup.subjects:
        for sentence in subject.notes:
            lineup.note(f"{subject.model} {subject.form}", sentence)
    for path in options.peer:
        open_peer(path, shapes=shapes)  # whatever is wrong with it is said before anything takes long
    say("taking memory, each in a process of its own")
    for subject in lineup.subjects:
        lineup.memory[subject.model, subject.form] = footprint(subject)
        lineup.sizes[subject.model, subject.form] = subject.megabytes
        if subject.path.suffix == ".onnx":
            lineup.work[subject.model, subject.form] = multiply_adds(subject.path)
    for label, path in lineup.peers:
        lineup.memory[label, PEER] = peer_footprint(path, shapes)
        lineup.sizes[label, PEER] = path.stat().st_size / 1e6
    _add_features(lineup)
    for subject in lineup.subjects:
        for count in threads if _has_threads(subject) else threads[:1]:
            _add_subject(lineup, subject, count, batches, options.check_bare)
    for label, path in lineup.peers:
        for count in threads:
            _add_peer(lineup, label, path, count, batches, shapes)
    return lineup


def frontend_name(frontend: FrontEnd) -> str:
    """What the table calls the features of this front-end: the level is taken in the graph and costs nothing here."""
    from runtime.audio.features import PRESETS

    plain = replace(frontend, level="none")
    named = (name for name, preset in PRESETS.items() if preset == plain)
    return next(named, f"{frontend.bands} {frontend.shape}, {frontend.window} samples")


def _add_features(lineup: Lineup) -> None:
    """Once for each front-end: they do not depend on the network."""
    for frontend in dict.fromkeys(replace(subject.frontend, level="none") for subject in lineup.subjects):
        name = frontend_name(frontend)
        lineup.add(name, "front-end", "features", 1, 1, Case(f"features {name}", features_part(frontend)))


def _has_threads(subject: Subject) -> bool:
    return not subject.form.startswith("TensorRT")


def _add_subject(lineup: Lineup, subject: Subject, threads: int, batches: Sequence[int], bare: bool) -> None:
    name, form = subject.model, subject.form
    prepare = partial(_torch_threads, threads) if form == "torch" else _nothing
    engine = subject.open(threads)
    lineup.engines.append((subject, engine))
    said = f"{name} {form}, threads {threads}"
    for batch in batches:
        if not subject.takes(batch):
            lineup.note(f"{name} {form}", f"its batch is fixed at 1, so --batch {batch} was not measured")
            continue
        runner = engine
        if batch > 1 and subject.open_batch is not None:
            runner = subject.open(threads, batch)
            lineup.engines.append((subject, runner))
        part = network_part(runner, subject.frontend, batch)
        lineup.add(name, form, "network", batch, threads, Case(f"network {said}, batch {batch}", part, prepare))
    step = step_part(engine, subject.frontend)
    lineup.add(name, form, "step", 1, threads, Case(f"step {said}", step, prepare))
    if bare and subject.path.suffix == ".onnx" and subject.frames is None:
        session = open_bare(subject.path, threads)
        feeds = {session.get_inputs()[0].name: windows(subject.frontend, 1)}
        lineup.add(name, form, "bare", 1, threads, Case(f"bare {said}", partial(session.run, None, feeds)))


def _labelled(paths: Sequence[Path]) -> list[tuple[str, Path]]:
    """Files by their stems; a stem that comes again gets a number."""
    stems = [path.stem for path in paths]
    again = [stems[:place].count(stem) for place, stem in enumerate(stems)]
    return [(f"{stem} ({n + 1})" if n else stem, path) for stem, n, path in zip(stems, again, paths, strict=True)]


def _add_peer(
    lineup: Lineup, label: str, path: Path, threads: int, batches: Sequence[int], shapes: dict[str, tuple[int, ...]]
) -> None:
    for batch in batches:
        peer = open_peer(path, threads, 1, shapes)
        size = peer.fixed or batch
        if batch > 1 and peer.fixed is not None:
            lineup.note(label, f"its batch is fixed at {peer.fixed}, so --batch {batch} was not measured")
            continue
        if batch > 1:
            try:
                peer = open_peer(path, threads, batch, shapes)
            except ShrikeError as error:
                lineup.note(label, f"--batch {batch} was not measured: {error}")
                continue
        said = ", ".join(f"{name} {'x'.join(map(str, v.shape))} {v.dtype}" for name, v in peer.feeds.items())
        lineup.fed.setdefault(label, said)
        case = Case(f"network {label}, threads {threads}, batch {size}", peer.run)
        lineup.add(label, PEER, "network", size, threads, case)


def _torch_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _nothing() -> None:
    """Other engines keep their threads to themselves."""
