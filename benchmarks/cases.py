"""Models under test: what a user names becomes files that run, in one or several forms.

    subjects = resolve("runs/model/model.pt", ["float", "u8"], folder)   # exported as by export.onnx, without its gate
    engine = subjects[0].open(threads=1)

INT8 exports here have arbitrary ranges and every possible layer in INT8: their timings are valid, their scores are not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import PRESETS, FrontEnd
from runtime.audio.score_times import STEP
from runtime.card.model_card import ANY_BATCH, read_card
from runtime.card.schema import require
from runtime.engines import Engine, open_engine
from runtime.engines.model_loader import MODELS
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest
from train.networks import NAMES, STREAMING

if TYPE_CHECKING:
    from export.card_writer import Prepared
    from train.checkpoint import Checkpoint

Form = Literal["torch", "float", "s8", "u8"]
SUFFIX = "-streaming"  # behind a network's name: its streaming form
LAYERS = 3  # of the encoder by name
RANGE = 8.0  # of every activation of an INT8 export made for timing
TARGETS: dict[Form, Literal["any", "tensorrt", "cpu"]] = {"float": "any", "s8": "tensorrt", "u8": "cpu"}
INT8_NOTE = "INT8 exported here has arbitrary ranges: timings are valid, scores are not"


@dataclass(frozen=True)
class Subject:
    """One model in one form: a file that other processes can open as well."""

    model: str  # label in tables
    form: str  # torch, float, s8, u8, TensorRT int8 ...
    path: Path
    frontend: FrontEnd
    batch: int  # 1, or ANY_BATCH
    frames: int | None = None  # new frames a step of a streaming model; None: windowed
    notes: tuple[str, ...] = ()

    def open(self, threads: int = 1) -> Engine:
        return TorchEngine(self.path, threads) if self.form == "torch" else open_engine(self.path, threads)


class TorchEngine:
    """A stripped network behind the protocol of runtime.engines."""

    precision = "fp32"

    def __init__(self, path: Path, threads: int) -> None:
        from export.strip import strip
        from train.checkpoint import read_checkpoint

        self.network, self.name, self.threads = strip(read_checkpoint(path)), path.stem, threads

    def __call__(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        torch.set_num_threads(self.threads)  # of the process: another engine's case may have set others
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.network(torch.from_numpy(features)).numpy()
        return logits

    def close(self) -> None:
        """Hold nothing."""


def resolve(
    name: str, forms: Sequence[Form], folder: Path, frontend: str = "f0", batch: int = 1, exit: int | None = None
) -> list[Subject]:
    """The model of this name in these forms; exports go into `folder`. `batch`: the largest that will be run."""
    path = Path(name)
    if path.suffix in (".onnx", ".engine"):
        return [of_file(path, _label(path))]
    if path.name == name and (MODELS / f"{name}.onnx").is_file():
        return [of_file(MODELS / f"{name}.onnx", name)]
    if path.suffix == ".pt":
        from train.checkpoint import read_checkpoint

        require(path.is_file(), f"{name}: file not found; python -m train writes model.pt{nearby(path)}")
        return _export(read_checkpoint(path), _label(path), forms, folder, batch, exit, "")
    if name in NAMES or name.removesuffix(SUFFIX) in STREAMING:
        layers, label = exit or LAYERS, name
        if name == "encoder":
            frontend = frontend if PRESETS[frontend].shape == "mel" else "mel"
            label, exit = f"{name}-{layers}", None
        note = f"{label}: randomly initialised, front-end {frontend}: timings are valid, scores are not"
        return _export(fresh(name, frontend, layers), label, forms, folder, batch, exit, note)
    known = [*sorted(file.stem for file in MODELS.glob("*.onnx")), *NAMES, *(f"{n}{SUFFIX}" for n in STREAMING)]
    raise ShrikeError(
        f"{name}: unknown model; expected a path to model.pt, model.onnx or model.engine, or one of "
        f"{', '.join(known)}{nearest(name, known)}"
    )


def of_file(path: Path, label: str) -> Subject:
    """A deployed model with its card."""
    require(path.is_file(), f"{path}: file not found; python -m export.onnx and export.trt write models{nearby(path)}")
    known = path.suffix == ".engine" or path.with_suffix(".json").is_file()
    require(known, f"{path}: has no card {path.with_suffix('.json').name}; name other models with --peer")
    card = read_card(path)
    form = "float" if card.quantisation is None else {"uint8": "u8", "int8": "s8"}[card.quantisation.activations]
    form, batch = (f"TensorRT {card.tensorrt.precision}", 1) if card.tensorrt else (form, card.input.shape[0])
    return Subject(label, form, path, card.frontend, batch, card.state.frames if card.state else None)


def open_bare(path: Path, threads: int) -> Any:
    """ONNX Runtime alone, with the threads of our engine."""
    import onnxruntime

    require(path.is_file(), f"{path}: file not found; expected an ONNX file{nearby(path)}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ShrikeError(f"{path}: ONNX Runtime refuses it ({reason}); expected an ONNX file") from error


def unique(subjects: Sequence[Subject]) -> list[Subject]:
    """The same subjects; a label and form that comes again gets a number."""
    found = list[Subject]()
    for subject in subjects:
        times = sum((other.model.partition(" (")[0], other.form) == (subject.model, subject.form) for other in found)
        found.append(replace(subject, model=f"{subject.model} ({times + 1})") if times else subject)
    return found


def _label(path: Path) -> str:
    """f0-off-0 for runs/f0-off-0/model.pt, door for deploy/door.onnx."""
    parent = path.absolute().parent.name
    return parent if path.stem == "model" and parent else path.stem


# ---- exports for timing


def fresh(name: str, frontend: str, layers: int = LAYERS) -> "Checkpoint":
    """A checkpoint of a randomly initialised network; `layers` are those of the encoder."""
    import torch

    from train.checkpoint import Checkpoint, RunProgress, build_network, versions
    from train.config import Data, Distillation, Model, TrainConfig

    torch.manual_seed(0)
    model = Model(name.removesuffix(SUFFIX), streaming=name.endswith(SUFFIX), layers=layers)
    data = Data(Path("none"), frontend=frontend, level=PRESETS[frontend].level)  # type: ignore[arg-type]
    settings = TrainConfig(data, model, Distillation("off"))
    return Checkpoint(settings, build_network(settings).state_dict(), {}, {}, RunProgress(), [], {}, versions())


def _export(
    checkpoint: "Checkpoint", label: str, forms: Sequence[Form], folder: Path, batch: int, exit: int | None, note: str
) -> list[Subject]:
    """Files with cards in `folder`, one for each form."""
    import torch

    from export.card_writer import Prepared, write_model
    from export.model_graph import trace
    from export.options import GateOptions, ModelOptions
    from export.strip import DeployedStream, strip
    from train.checkpoint import write_checkpoint

    torch.set_num_threads(1)
    folder.mkdir(parents=True)
    network, frontend, found = strip(checkpoint, exit), checkpoint.settings.frontend, list[Subject]()
    frames = STEP if isinstance(network, DeployedStream) else None
    source = ModelOptions(folder / label, batch="dynamic" if batch > 1 else "1")
    if frames and set(forms) == {"torch"}:
        raise ShrikeError(f"{label}: a streaming model has no step in torch; add --forms float, s8 or u8")
    for form in forms:
        path = folder / f"{label}-{form}.{'pt' if form == 'torch' else 'onnx'}"
        notes = tuple(filter(None, (note, INT8_NOTE if form in ("s8", "u8") else "")))
        if form == "torch":
            if frames is None:
                write_checkpoint(path, checkpoint)
                found.append(Subject(label, form, path, frontend, ANY_BATCH, notes=notes))
            continue
        plain = trace(network, frontend, batch > 1, layout="channels first" if form == "s8" else "channels last")
        prepared = Prepared(source, GateOptions(), checkpoint, plain, plain, "fp32")
        prepared = prepared if form == "float" else _in_int8(prepared, "int8" if form == "s8" else "uint8")
        write_model(prepared, path, TARGETS[form])
        found.append(Subject(label, form, path, frontend, ANY_BATCH if batch > 1 else 1, frames, notes))
    return found


def _in_int8(prepared: "Prepared", kind: Literal["int8", "uint8"]) -> "Prepared":
    """The same with arbitrary ranges and every possible layer in INT8."""
    from export.int8.quantize import float_by_design, plan, quantise, tensors
    from runtime.card.model_card import Quantisation

    plain = prepared.float_graph.graph
    layers = plan(plain)
    graph = prepared.float_graph.with_graph(quantise(plain, layers, dict.fromkeys(tensors(layers), RANGE), kind))
    made = Quantisation("ptq", kind, float_by_design(plain, layers))
    return replace(prepared, graph=graph, precision="int8", quantisation=made)


def multiply_adds(path: Path) -> int | None:
    """Of the convolutions and matrix products of one window or step, by an ONNX file; None where sizes are open."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(path)).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    for port in (*graph.input, *graph.value_info, *graph.output):
        sizes = [size.dim_value for size in port.type.tensor_type.shape.dim]
        shapes[port.name] = [size or (1 if place == 0 else 0) for place, size in enumerate(sizes)]  # an open batch is 1
    counts = []
    for node in graph.node:
        if node.op_type in ("Conv", "MatMul", "Gemm"):
            first, second, output = (shapes.get(name, [0]) for name in (*node.input[:2], node.output[0]))
            turned = node.op_type == "Gemm" and any(item.name == "transA" and item.i for item in node.attribute)
            each = math.prod(second[1:]) if node.op_type == "Conv" else first[0 if turned else -1]
            counts.append(math.prod(output) * each)
    return sum(counts) if all(counts) else None
