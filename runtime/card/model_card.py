"""Read and write model.json, the card beside model.onnx or model.engine with the same stem.

    card = read_card("deploy/model.onnx")        # the card beside it; verifies the sha256 of that file
    card = read_card("deploy/model.json")        # the same card; verifies every file that it lists
    llr = card.score.llr(logits[:, 1] - logits[:, 0])
    write_card("deploy/model.onnx", card)        # model.json, complete or not at all

Cards may be hostile: runtime.support.codec checks the type of every entry, runtime.card.schema its range, and no file
name may point outside the card's folder.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.audio.features import FrontEnd
from runtime.card.checksums import check_name, check_sha256, sha256_file, verify_file
from runtime.card.schema import (
    ANY_BATCH,
    SURE,
    Accuracy,
    Calibration,
    Network,
    Origin,
    Precision,
    Quantisation,
    ScoreMap,
    State,
    StateTensor,
    TensorRT,
    TensorSpec,
    Training,
    require,
)
from runtime.support import codec
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

__all__ = [  # includes the schema, for code that writes cards
    "ANY_BATCH", "CREATED", "SURE", "VERSION", "Accuracy", "Calibration", "ModelCard", "Network", "Origin", "Precision",
    "Quantisation", "ScoreMap", "State", "StateTensor", "Target", "TensorRT", "TensorSpec", "Training", "card_path",
    "created_now", "read_card", "sha256_file", "write_card",
]  # fmt: skip

VERSION = 4  # of the card format; a newer card needs a newer Shrike
LARGEST_CARD = 1 << 20  # bytes; ours have a few thousand
MOST_FILES = 16  # of one export
CREATED = "%Y-%m-%dT%H:%M:%SZ"  # UTC
OUTPUTS = 2  # logits: spoof, bona fide

Target = Literal["cpu", "tensorrt", "any"]


@dataclass(frozen=True)
class ModelCard:
    """Metadata of a deployed model, for the runtime and for readers."""

    version: int
    name: str
    created: str  # UTC, 2025-01-31T12:00:00Z
    network: Network
    frontend: FrontEnd
    input: TensorSpec  # raw log power; the graph applies the front-end's level itself
    output: TensorSpec  # logits (spoof, bona fide)
    state: State | None  # of a streaming network, whose input is the new frames instead of a window
    precision: Precision  # of the ONNX graph; an engine's is in `tensorrt`
    target: Target
    score: ScoreMap
    accuracy: Accuracy
    calibration: Calibration | None
    quantisation: Quantisation | None  # of an INT8 model only
    training: Training | None  # None: the origin of the float network is unknown
    files: dict[str, str]  # name -> sha256
    origin: Origin
    tensorrt: TensorRT | None  # of an engine only
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        require(bool(self.name), "name: expected text")
        try:
            time.strptime(self.created, CREATED)
        except ValueError:
            raise ShrikeError(f"created {self.created!r}: expected a time as in 2025-01-31T12:00:00Z") from None
        window = (1, self.frontend.bands, self.state.frames if self.state else self.frontend.width)
        shape = list(self.input.shape)
        require(self.input.shape[1:] == window, f"input {shape}: expected {list(window)}, which the front-end gives")
        require(self.output.shape[1:] == (OUTPUTS,), f"output {list(self.output.shape)}: expected (batch, 2)")
        require(self.output.shape[0] == self.input.shape[0], "input, output: expected the same batch")
        require((self.precision == "int8") == (self.quantisation is not None), "quantisation: expected with int8 only")
        require(0 < len(self.files) <= MOST_FILES, f"files: {len(self.files)} came, expected 1 to {MOST_FILES}")
        for name, digest in self.files.items():
            check_name(name)
            check_sha256(digest, name)
        engine = any(name.endswith(".engine") for name in self.files)
        require(engine == (self.tensorrt is not None), "tensorrt: expected with a .engine file in `files` only")

    def check_tensorrt(self, version: str, gpu: str, capability: str) -> list[str]:
        """List the differences between this machine and the one on which the engine was built."""
        record = self.tensorrt
        if record is None:
            return [f"{self.name} has no TensorRT engine; build one on this device: python -m export.trt MODEL.onnx"]
        facts = (
            ("with TensorRT", record.version, version),
            ("on the GPU", record.gpu, gpu),
            ("for compute capability", record.capability, capability),
        )
        return [f"built {fact} {built}, this machine has {here}" for fact, built, here in facts if built != here]


def created_now() -> str:
    return time.strftime(CREATED, time.gmtime())


def card_path(path: str | os.PathLike[str]) -> Path:
    """Path of a model's card: model.engine -> model.json."""
    return Path(path).with_suffix(".json")


def read_card(path: str | os.PathLike[str], verify: bool = True) -> ModelCard:
    """Read the card at `path`, or the one beside the model at `path`.

    `verify` compares sha256 sums: of this model if `path` is a model's, else of all files that the card lists.
    """
    card_file = card_path(path)
    if not os.path.isfile(card_file):
        raise ShrikeError(
            f"{path} has no card: expected {card_file.name} beside it; "
            f"python -m export.onnx and python -m export.trt write both{nearby(path)}"
        )
    try:
        status = card_file.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_CARD:  # opening a named pipe would wait
            raise ShrikeError(f"{card_file}: expected a regular file of at most {LARGEST_CARD >> 20} MiB")
        with open(card_file, "rb") as file:
            data = file.read(LARGEST_CARD + 1)
    except OSError as error:
        raise ShrikeError(f"{card_file} cannot be read: {error.strerror}") from error
    values = codec.parse(data, str(card_file))
    version = values.get("version")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ShrikeError(
            f"{card_file}: card version {codec.show(version)}, expected 1 to {VERSION}; "
            "use the Shrike that wrote it (entry origin.shrike), or export the model again"
        )
    if version == 2 and values.pop("cascade", None) is not None:
        raise ShrikeError(f"{card_file} describes an early-exit export, which is no longer supported; export it again")
    values = ({"state": None} if version == 1 else {}) | values | {"version": VERSION}  # in the current format
    card = codec.build(ModelCard, values, str(card_file))
    if verify:
        name = Path(path).name
        if name != card_file.name and name not in card.files:
            raise ShrikeError(f"{card_file} does not list {name}; expected one of {', '.join(sorted(card.files))}")
        for listed in sorted(card.files) if name == card_file.name else [name]:
            verify_file(card_file, listed, card.files[listed])
    return card


def write_card(path: str | os.PathLike[str], card: ModelCard) -> Path:
    """Write model.json (for a model's path, the card beside it); refuse what read_card would refuse."""
    target = card_path(path)
    text = codec.dump(card)
    codec.build(ModelCard, codec.parse(text.encode(), target.name), target.name)
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target
