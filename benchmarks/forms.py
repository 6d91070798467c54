"""What a user names -> the forms in which it can run: files in one folder, and engines of them.

    found = resolve("ecanet18", ["torch", "u8"], folder)              # Subjects; a network's name: weights by chance
    found = resolve("runs/model/model.pt", ["float", "u8"], folder)   # exported as by export.onnx, without its gate
    found = resolve("f0", [], folder)                                 # an embedded model, as it is
    engine = found[0].open(threads=1)

For timing alone: INT8 ranges come from windows by chance, so every layer that can be INT8 is, and accuracy is unknown.
What ships is measured by naming the file that export.onnx wrote.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import FrontEnd
from runtime.audio.score_times import STEP
from runtime.card.model_card import ANY_BATCH, ModelCard, read_card
from runtime.engines import Engine, open_engine
from runtime.engines.model_loader import MODELS
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest
from train.networks import NAMES, STREAMING

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.streaming_graph import StepGraph
    from train.checkpoint import Checkpoint

Form = Literal["torch", "float", "s8", "u8"]
FORMS: tuple[Form, ...] = get_args(Form)
RANGE_WINDOWS = 8  # by chance, that set INT8 ranges for timing
SEED = 0
STEPPING = "-streaming"  # behind a network's name: the one that looks back only
INT8_NOTE = "INT8 made for timing alone: ranges from windows by chance, every layer that can be INT8 is"


@dataclass(frozen=True)
class Subject:
    """One model in one form, as a file that a fresh process can open as well."""

    model: str  # what tables call it
    form: str  # torch, float, s8, u8; TensorRT int8 and the like
    path: Path
    frontend: FrontEnd
    batch: int  # 1, or ANY_BATCH
    notes: tuple[str, ...] = ()  # what a reader must not overlook
    open_batch: Path | None = None  # the same with an open batch, where that is another file
    frames: int | None = None  # new ones in a step of a network that remembers; None: it is given windows

    def open(self, threads: int = 1, batch: int = 1) -> Engine:
        path = self.open_batch if batch > 1 and self.open_batch else self.path
        return TorchEngine.load(path) if self.form == "torch" else open_engine(path, threads)

    def takes(self, batch: int) -> bool:
        return batch == 1 or self.batch == ANY_BATCH or self.open_batch is not None

    @property
    def megabytes(self) -> float:
        return self.path.stat().st_size / 1e6


class TorchEngine:
    """A stripped network behind the protocol of runtime.engines; threads are torch's, for the whole process."""

    precision = "fp32"

    def __init__(self, network: "nn.Module", name: str) -> None:
        self.network, self.name = network, name

    @classmethod
    def load(cls, path: Path) -> "TorchEngine":
        from export.strip import strip
        from train.checkpoint import read_checkpoint

        return cls(strip(read_checkpoint(path)), path.stem)

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            logits: NDArray[np.float32] = self.network(torch.from_numpy(features)).numpy()
        return logits

    def close(self) -> None:
        """Nothing to give back."""


def resolve(
    name: str, forms: Sequence[Form], folder: Path, frontend: str = "f0", batches: Sequence[int] = (1,)
) -> list[Subject]:
    """Everything that this name stands for; what has to be exported goes into `folder`."""
    path = Path(name)
    if path.suffix in (".onnx", ".engine"):
        return [of_file(path, _label(path))]
    embedded = MODELS / f"{name}.onnx"
    if path.name == name and embedded.is_file():
        return [of_file(embedded, name)]
    if path.suffix == ".pt":
        if not path.is_file():
            raise ShrikeError(f"{name} does not exist; python -m train writes model.pt{nearby(path)}")
        from train.checkpoint import read_checkpoint

        return _exported(read_checkpoint(path), _label(path), path, forms, folder, batches, ())
    if name in NAMES or name.removesuffix(STEPPING) in STREAMING:
        note = f"fresh weights by chance on the front-end {frontend}: times mean something, scores do not"
        checkpoint = fresh(name, frontend)
        return _exported(checkpoint, name, None, forms, folder, batches, (note,))
    there = sorted(file.stem for file in MODELS.glob("*.onnx"))
    remember = [f"{network}{STEPPING}" for network in STREAMING]
    raise ShrikeError(
        f"{name}: no such model; a path to model.pt, model.onnx or model.engine, an embedded model "
        f"({', '.join(there)}) or a network ({', '.join(NAMES)}; of those that remember, {', '.join(remember)}) was "
        "expected" + nearest(name, [*there, *NAMES, *remember])
    )


def of_file(path: Path, label: str) -> Subject:
    """A deployed model with its card."""
    if not path.is_file():
        raise ShrikeError(
            f"{path} does not exist; python -m export.onnx and python -m export.trt write models{nearby(path)}"
        )
    if path.suffix == ".onnx" and not path.with_suffix(".json").is_file():
        raise ShrikeError(f"{path} has no card, {path.with_suffix('.json').name}; give foreign models with --peer")
    card = read_card(path)
    if card.tensorrt is not None:
        return Subject(label, f"TensorRT {card.tensorrt.precision}", path, card.frontend, 1)
    form = "float" if card.quantisation is None else {"uint8": "u8", "int8": "s8"}[card.quantisation.activations]
    frames = card.state.frames if card.state else None
    return Subject(label, form, path, card.frontend, card.input.shape[0], frames=frames)


def unique(subjects: Sequence[Subject]) -> list[Subject]:
    """The same subjects; where two would be one row of a table, the later ones get a number."""
    seen: dict[tuple[str, str], int] = {}
    kept = []
    for subject in subjects:
        times = seen[subject.model, subject.form] = seen.get((subject.model, subject.form), 0) + 1
        kept.append(replace(subject, model=f"{subject.model} ({times})") if times > 1 else subject)
    return kept


def _label(path: Path) -> str:
    """runs/f0-off-0/model.pt is called f0-off-0, deploy/door.onnx door."""
    parent = path.absolute().parent.name
    return parent if path.stem == "model" and parent else path.stem


def fresh(name: str, frontend: str) -> "Checkpoint":
    """A network as it is before training."""
    import torch

    from train.checkpoint import Checkpoint, RunProgress, build_network, versions
    from train.config import Data, Distillation, Model, TrainConfig

    torch.manual_seed(SEED)
    model = Model(name.removesuffix(STEPPING), streaming=name.endswith(STEPPING))
    settings = TrainConfig(Data(Path("none"), frontend=frontend), model, Distillation("off"))  # type: ignore[arg-type]
    return Checkpoint(settings, build_network(settings).state_dict(), {}, {}, RunProgress(), [], {}, versions())


def _exported(
    checkpoint: "Checkpoint",
    label: str,
    path: Path | None,
    forms: Sequence[Form],
    folder: Path,
    batches: Sequence[int],
    notes: tuple[str, ...],
) -> list[Subject]:
    import torch

    from train.checkpoint import write_checkpoint

    torch.set_num_threads(1)  # on a busy machine two that wait for each other are slower than one; cases set their own
    folder.mkdir(parents=True)
    exported = _Exporter(checkpoint, label, folder)
    frontend = checkpoint.settings.frontend
    found = []
    frames = exported.frames
    if frames is not None and set(forms) == {"torch"}:
        raise ShrikeError(f"{label} in torch: it runs whole clips there, not steps; give --forms float, s8 or u8")
    for form in forms:
        if frames is not None and form == "torch":
            notes = (*notes, "torch has no step here: it runs whole clips; only exported graphs were measured")
        elif form == "torch":
            if path is None:
                path = folder / f"{label}.pt"
                write_checkpoint(path, checkpoint)
            found.append(Subject(label, form, path, frontend, ANY_BATCH, notes))
        else:
            more = exported.write(form, dynamic=True) if max(batches) > 1 else None
            one = exported.write(form, dynamic=False)
            said = notes if form == "float" else (*notes, INT8_NOTE)
            found.append(Subject(label, form, one, frontend, 1, said, more, frames))
    return found


class _Exporter:
    """Graphs of one network, each traced and calibrated once."""

    def __init__(self, checkpoint: "Checkpoint", label: str, folder: Path) -> None:
        from export.strip import DeployedStream, strip

        self.checkpoint, self.label, self.folder = checkpoint, label, folder
        self.network = strip(checkpoint)
        self.frames = STEP if isinstance(self.network, DeployedStream) else None
        self.graphs: dict[bool, onnx.ModelProto] = {}
        self.steps: dict[tuple[bool, str], StepGraph] = {}
        self.ranges: dict[str, float] = {}

    def write(self, form: Form, dynamic: bool) -> Path:
        """A file with its card, as export.onnx leaves them."""
        from export.int8 import quantize
        from runtime.card.checksums import sha256_file
        from runtime.card.model_card import write_card

        step = self._step(dynamic, form) if self.frames else None
        float_graph = graph = step.graph if step else self._traced(dynamic)
        if form != "float":
            layers = quantize.plan(float_graph)
            graph = quantize.quantise(float_graph, layers, self._ranges(layers), "int8" if form == "s8" else "uint8")
            step = step.with_graph(graph) if step else None
        path = self.folder / f"{self.label}-{form}{'-batch' if dynamic else ''}.onnx"
        path.write_bytes(graph.SerializeToString(deterministic=True))
        write_card(path, self._card(form, dynamic, float_graph, graph, step, {path.name: sha256_file(path)}))
        return path

    def _traced(self, dynamic: bool) -> "onnx.ModelProto":
        from export import graph

        if dynamic not in self.graphs:
            self.graphs[dynamic] = graph.trace(self.network, self.checkpoint.settings.frontend, dynamic)
        return self.graphs[dynamic]

    def _step(self, dynamic: bool, form: Form) -> "StepGraph":
        from export import streaming_graph as steps
        from export.strip import DeployedStream

        layout: steps.Layout = "channels first" if form == "s8" else "channels last"
        if (dynamic, layout) not in self.steps:
            assert isinstance(self.network, DeployedStream)
            frontend = self.checkpoint.settings.frontend
            self.steps[dynamic, layout] = steps.trace(self.network, frontend, STEP, dynamic, layout)
        return self.steps[dynamic, layout]

    def _step_ranges(self, names: list[str]) -> dict[str, float]:
        from export import streaming_graph as steps
        from export.graph import INPUT
        from export.int8 import calibration

        step, frontend = self._step(False, "float"), self.checkpoint.settings.frontend
        inner = tuple(name for name in names if name != INPUT)
        stream = steps.StepSession(step, extra=inner)
        pieces = (piece for clip in chance_windows(frontend, 1) for piece in steps.split_steps(clip, STEP))
        seen = ({INPUT: piece, **dict(zip(inner, stream(piece)[1], strict=True))} for piece in pieces)
        return calibration.read_ranges(names, seen, 0, "min-max")

    def _ranges(self, layers: Any) -> dict[str, float]:
        from export.int8 import calibration, quantize

        if not self.ranges:
            names = quantize.tensors(layers)
            if self.frames:
                self.ranges = self._step_ranges(names)
                return self.ranges
            windows = chance_windows(self.checkpoint.settings.frontend, RANGE_WINDOWS)
            self.ranges = calibration.find_ranges(self._traced(False), names, list(windows), "min-max")
        return self.ranges

    def _card(
        self,
        form: Form,
        dynamic: bool,
        float_graph: "onnx.ModelProto",
        graph: "onnx.ModelProto",
        step: "StepGraph | None",
        files: dict[str, str],
    ) -> ModelCard:
        from export.card_writer import Judgement, make_card
        from export.int8.quantize import float_by_design, plan
        from export.options import GateOptions, ModelOptions
        from export.pipeline import Prepared
        from export.score_map import UNFITTED
        from export.verify import UNMEASURED
        from runtime.card.model_card import Quantisation

        quantisation = None
        if form != "float":
            why = float_by_design(float_graph, plan(float_graph))
            quantisation = Quantisation("ptq", "int8" if form == "s8" else "uint8", why)
        source = ModelOptions(Path(f"{self.label}.pt"), batch="dynamic" if dynamic else "1")
        precision: Literal["fp32", "int8"] = "fp32" if quantisation is None else "int8"
        prepared = Prepared(
            source, GateOptions(), self.checkpoint, float_graph, graph, precision, None, None, None, quantisation, step
        )
        target = {"float": "any", "s8": "tensorrt", "u8": "cpu"}[form]
        return make_card(prepared, Judgement(UNFITTED, UNMEASURED), files, target)  # type: ignore[arg-type]


def chance_windows(frontend: FrontEnd, count: int) -> NDArray[np.float32]:
    """Windows by chance in log power's range, (count, 1, 1, bands, frames)."""
    rng = np.random.default_rng(SEED)
    return rng.normal(-8, 4, (count, 1, 1, frontend.bands, frontend.width)).astype(np.float32)
