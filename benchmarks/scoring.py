"""Scores of a model over trials: by several processes, and kept as they come, so that a killed run goes on.

    artefact = find_artefact("runs/distilled/model.pt")          # or model.onnx, model.engine, f0, wide
    scores = score_trials(artefact, cache, Path("report/partial/distilled.txt"), binding, jobs=2)

The partial file is one line of JSON that says what its scores belong to (the model's hash, the trials, the windows, the
engine), then `UTTERANCE SCORE` a line. If anything of the first line is another, it is begun afresh. A score does not
hang on which process computed it, so that an interrupted run ends with the very scores of an undisturbed one.
"""

import copy
import json
import signal
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.audio.features import FrontEnd
from runtime.audio.score_times import scored
from runtime.card.checksums import sha256_file
from runtime.card.model_card import ModelCard, State, read_card
from runtime.engines.model_loader import MODELS, find_model
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest
from train.data.cache import FeatureCache
from train.data.corpus import Partition
from train.data.processes import in_processes
from train.progress import Progress, say

if TYPE_CHECKING:
    from export.graph import Forward
    from export.verify import Scores

CHUNK = 16  # clips a process takes at a time: half a second of work, which is what a kill can lose

OpenEngine = Callable[[], "Forward"]


@dataclass(frozen=True)
class Artefact:
    """A model in any of its forms."""

    path: Path
    frontend: FrontEnd
    card: ModelCard | None  # None: a checkpoint
    form: str  # in words, with what runs it
    open: OpenEngine  # also in another process
    parallel: bool  # whether several processes may each open it
    step: int | None = None  # new frames in a step of a network that remembers; its engine takes whole windows by steps

    @property
    def sha256(self) -> str:
        return sha256_file(self.path)


def find_artefact(name: str, exit: int = 4) -> Artefact:
    """The model of that path, or the embedded one of that name; `exit` counts for a checkpoint alone."""
    path = Path(name)
    if path.suffix == ".pt":
        return _checkpoint(path, exit)
    if path.suffix not in (".onnx", ".engine") and not (MODELS / f"{name}.onnx").is_file():
        embedded = sorted(found.stem for found in MODELS.glob("*.onnx"))
        raise ShrikeError(
            f"{name} is no model; model.pt, model.onnx, model.engine or one of {', '.join(embedded)} was expected"
            + nearest(name, embedded)
        )
    if exit != 4:
        raise ShrikeError(f"--exit belongs to checkpoints; {name} was exported with one exit, which its card names")
    path = find_model(name)
    if not path.is_file():
        raise ShrikeError(
            f"{path} does not exist; python -m export.onnx and python -m export.trt write models{nearby(path)}"
        )
    card = read_card(path)
    if path.suffix == ".onnx":
        import onnxruntime

        return Artefact(
            path,
            card.frontend,
            card,
            f"ONNX {card.precision}, ONNX Runtime {onnxruntime.__version__}",
            partial(_open_file, path),
            True,
            card.state.frames if card.state else None,
        )
    record = card.tensorrt
    assert record is not None, "a card that speaks for an engine has its record"
    form = f"engine {record.precision}, TensorRT {record.version} on {record.gpu}"
    frames = card.state.frames if card.state else None
    return Artefact(path, card.frontend, card, form, partial(_open_file, path), False, frames)


def _checkpoint(path: Path, exit: int) -> Artefact:
    """One exit of a checkpoint, traced here once: the processes need no torch."""
    import onnxruntime

    from export import graph
    from export import streaming_graph as steps
    from export.strip import DeployedStream, strip
    from train.checkpoint import read_checkpoint

    checkpoint = read_checkpoint(path)
    frontend, network = checkpoint.settings.frontend, strip(checkpoint, exit)
    form = f"checkpoint, exit {exit}, float by ONNX Runtime {onnxruntime.__version__}"
    if isinstance(network, DeployedStream):
        step = steps.trace(network, frontend)
        opened = partial(_open_step, step.graph.SerializeToString(), step.state)
        return Artefact(path, frontend, None, form, opened, True, step.state.frames)
    model = graph.trace(network, frontend).SerializeToString()
    return Artefact(path, frontend, None, form, partial(_open_graph, model), True)


def _open_file(path: Path) -> "Forward":
    from export.streaming_eval import by_steps
    from runtime.engines import as_streaming, open_engine

    engine = open_engine(path)  # one thread
    remembers = as_streaming(engine)
    return by_steps(remembers) if remembers else engine


def _open_graph(model: bytes) -> "Forward":
    import onnx

    from export.graph import as_engine

    return as_engine(onnx.load_from_string(model))


def _open_step(model: bytes, state: State) -> "Forward":
    import onnx

    from export.streaming_graph import StepGraph, as_runner

    return as_runner(StepGraph(onnx.load_from_string(model), state))


def binding(artefact: Artefact, partition: Partition, cache: FeatureCache, mean: bool) -> dict[str, str]:
    """All that decides a score: a partial file that says otherwise is of no use."""
    return {
        "model": artefact.sha256,
        "form": artefact.form,
        "trials": partition.identity(),
        "features": cache.identity,
        "windows": "mean" if mean else "first",
    }


def score_trials(
    artefact: Artefact, cache: FeatureCache, kept: Path, bound_to: dict[str, str], jobs: int, title: str
) -> "Scores":
    """Bona fide minus spoof of every clip in the cache, (n,); what `kept` holds already is not computed again."""
    names = [trial.utterance for trial in cache.trials]
    known = read_partial(kept, bound_to)
    missing = [clip for clip, name in enumerate(names) if name not in known]
    if known and missing:
        say(f"{title}: {len(names) - len(missing):,} of {len(names):,} scores are there already; going on")
    if missing:
        with open(kept, "a" if known else "w", encoding="utf-8") as file:
            if not known:
                file.write(json.dumps(bound_to) + "\n")
            with Progress(title, len(missing), "trials") as bar:
                mean = bound_to["windows"] == "mean"
                with closing(_compute(artefact, cache, missing, mean, jobs if artefact.parallel else 1)) as results:
                    for clips, new in results:
                        lines = []
                        for clip, score in zip(clips, new, strict=True):
                            known[names[clip]] = score
                            lines.append(f"{names[clip]} {score!r}\n")
                        file.write("".join(lines))
                        file.flush()
                        bar.advance(len(clips))
    scores = np.array([known[name] for name in names])
    if not np.isfinite(scores).all():
        raise ShrikeError(f"{artefact.path} gives scores that are not finite; export or train it again")
    return scores


def read_partial(path: Path, bound_to: dict[str, str]) -> dict[str, float]:
    """The scores that a run kept, if they are of the same model and trials; a line cut off by a kill does not count."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return {}
    except UnicodeDecodeError:
        text = ""
    whole = text[: text.rfind("\n") + 1]
    head, *lines = whole.splitlines() or [""]
    try:
        found: Any = json.loads(head)
        known = {name: float(score) for name, score in (line.split() for line in lines)}
    except ValueError:
        found, known = None, {}
    if found != bound_to:
        changed = [key for key in bound_to if isinstance(found, dict) and found.get(key) != bound_to[key]]
        say(f"{path} is of another {' and '.join(changed) or 'kind'}; scoring begins afresh")
        return {}
    if len(whole) < len(text):
        with open(path, "rb+") as file:
            file.truncate(len(whole.encode()))
    return known


def _compute(
    artefact: Artefact, cache: FeatureCache, clips: Sequence[int], mean: bool, jobs: int
) -> Generator[tuple[Sequence[int], list[float]], None, None]:
    chunks = [clips[start : start + CHUNK] for start in range(0, len(clips), CHUNK)]
    if jobs == 1:
        engine = artefact.open()
        for chunk in chunks:
            yield chunk, _score_clips(engine, cache, chunk, mean, artefact.step)
        return
    light = copy.copy(cache)
    light.trials = []  # names and paths of 600,000 trials need not travel to every process
    given = (artefact.open, light, mean, artefact.step)
    yield from in_processes(_Worker.score, chunks, jobs, "scored", _Worker.begin, given)


def _score_clips(
    engine: "Forward", cache: FeatureCache, clips: Sequence[int], mean: bool, step: int | None
) -> list[float]:
    """Bona fide minus spoof of each clip's first window, or the mean over windows that overlap by half; of a network
    that remembers behind the step that runtime.audio.score_times names, from a clean state in every window."""
    from export.graph import score
    from export.int8.calibration import network_input

    def of_clip(clip: int) -> float:
        windows = (network_input(cache.window(clip, int(start))) for start in cache.starts(clip, mean))
        place = scored(int(cache.lengths[clip]), cache.frontend, step) // step - 1 if step else 0
        return float(np.mean([score(engine(window))[place] for window in windows]))

    return [of_clip(clip) for clip in clips]


class _Worker:
    """What one process holds."""

    state: "tuple[Forward, FeatureCache, bool, int | None]"

    @classmethod
    def begin(cls, open_engine: OpenEngine, cache: FeatureCache, mean: bool, step: int | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that gave us the work
        cls.state = open_engine(), cache, mean, step

    @classmethod
    def score(cls, clips: Sequence[int]) -> list[float]:
        engine, cache, mean, step = cls.state
        return _score_clips(engine, cache, clips, mean, step)


def labels(names: Sequence[str]) -> list[str]:
    """Short names for models that differ: as much of the path's end as tells them apart, and never just model.pt."""
    parts = [Path(name).parts for name in names]
    shown = []
    for mine in parts:
        least = 2 if Path(mine[-1]).stem == "model" else 1
        count = next(
            (n for n in range(least, len(mine)) if [other[-n:] for other in parts].count(mine[-n:]) == 1), len(mine)
        )
        shown.append("/".join(part for part in mine[-count:] if part != "/"))
    return shown
