"""model.json: what a deployed model is, beside model.onnx or model.engine and with the same stem.

    card = read_card("deploy/model.onnx")        # the card beside it, and the hash of that file
    card = read_card("deploy/model.json")        # the same card, and the hash of every file it speaks for
    llr = card.score.llr(logits[:, 1] - logits[:, 0])
    write_card("deploy/model.onnx", card)        # model.json, whole or not at all

A card may come from anybody, so it is read as hostile: runtime.card.codec holds every entry to its type, the classes
of runtime.card.schema to their ranges, and no name of a file leads out of the card's folder.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runtime.audio.features import FrontEnd
from runtime.card import codec as records
from runtime.card.checksums import check_name, check_sha256, sha256_file, verify_file
from runtime.card.schema import (
    ANY_BATCH,
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
from runtime.support.atomic import atomic_file
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

__all__ = [  # with what a card's writer needs
    "ANY_BATCH",
    "CREATED",
    "VERSION",
    "Accuracy",
    "Calibration",
    "ModelCard",
    "Network",
    "Origin",
    "TensorSpec",
    "Precision",
    "Quantisation",
    "ScoreMap",
    "State",
    "StateTensor",
    "Target",
    "TensorRT",
    "Training",
    "card_path",
    "created_now",
    "read_card",
    "sha256_file",
    "write_card",
]

VERSION = 3  # of the card format; a newer one needs a newer Shrike
ADDED = {1: ("state",), 2: ()}  # entries that cards of an older version lack: null there
LARGEST_CARD = 1 << 20  # bytes; ours have a few thousand
MOST_FILES = 16  # of one export
CREATED = "%Y-%m-%dT%H:%M:%SZ"  # UTC
OUTPUTS = 2  # logits: spoof, bona fide

Target = Literal["cpu", "tensorrt", "any"]


@dataclass(frozen=True)
class ModelCard:
    """Everything the runtime and a person need to know about a deployed model."""

    version: int
    name: str
    created: str  # UTC, 2025-01-31T12:00:00Z
    network: Network
    frontend: FrontEnd
    input: TensorSpec  # raw log power; the graph applies the front-end's level itself
    output: TensorSpec  # logits (spoof, bona fide)
    state: State | None  # of a network that remembers: its input is the newest frames instead of a window
    precision: Precision  # of the ONNX graph; an engine's own stands in its record
    target: Target
    score: ScoreMap
    accuracy: Accuracy
    calibration: Calibration | None
    quantisation: Quantisation | None  # of an INT8 model, and only of one
    training: Training | None  # None: the float network's past is unknown
    files: dict[str, str]  # name -> sha256
    origin: Origin
    tensorrt: TensorRT | None  # of an engine, and only of one
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        require(bool(self.name), "the model has no name")
        try:
            time.strptime(self.created, CREATED)
        except ValueError:
            raise ShrikeError(f"created is {self.created!r}; a time as in 2025-01-31T12:00:00Z was expected") from None
        window = (1, self.frontend.bands, self.state.frames if self.state else self.frontend.width)
        require(
            self.input.shape[1:] == window, f"input is {list(self.input.shape)}, but the front-end gives {list(window)}"
        )
        require(self.output.shape[1:] == (OUTPUTS,), f"output is {list(self.output.shape)}; (batch, 2) was expected")
        require(self.output.shape[0] == self.input.shape[0], "input and output have different batches")
        require((self.precision == "int8") == (self.quantisation is not None), "int8 and quantisation go together")
        require(0 < len(self.files) <= MOST_FILES, f"{len(self.files)} files; 1 to {MOST_FILES} were expected")
        for name, digest in self.files.items():
            check_name(name)
            check_sha256(digest, name)
        engines = [name for name in self.files if name.endswith(".engine")]
        require(bool(engines) == (self.tensorrt is not None), "an engine and its TensorRT record go together")

    def check_tensorrt(self, version: str, gpu: str, capability: str) -> list[str]:
        """A sentence for everything in which this machine differs from the one the engine was built on."""
        record = self.tensorrt
        if record is None:
            return [f"{self.name} holds no TensorRT engine; build one on this device: python -m export.trt MODEL.onnx"]
        found = []
        if version != record.version:
            found.append(f"built with TensorRT {record.version}, this machine has {version}")
        if gpu != record.gpu:
            found.append(f"built on the GPU {record.gpu}, this machine has {gpu}")
        if capability != record.capability:
            found.append(f"built for compute capability {record.capability}, this machine's GPU has {capability}")
        return found


def created_now() -> str:
    return time.strftime(CREATED, time.gmtime())


def card_path(path: str | os.PathLike[str]) -> Path:
    """The card of a model: model.engine -> model.json."""
    return Path(path).with_suffix(".json")


def read_card(path: str | os.PathLike[str], verify: bool = True) -> ModelCard:
    """The card at `path`, or the one beside the model at `path`; whatever cannot be used gives a ShrikeError.

    `verify` compares hashes: a model's path that of this model, the card's path those of all its files.
    """
    card_file = card_path(path)
    if not os.path.isfile(card_file):
        raise ShrikeError(
            f"{path} has no card: {card_file.name} was expected beside it; "
            f"python -m export.onnx and python -m export.trt write both{nearby(path)}"
        )
    values = records.parse(_read_whole(card_file), str(card_file))
    version = values.get("version")
    if type(version) is not int or version not in (*ADDED, VERSION):
        raise ShrikeError(
            f"{card_file} has card version {records.show(version)}, this Shrike reads versions 1 to {VERSION}; "
            "use the Shrike that wrote it (its entry origin.shrike), or export the model again"
        )
    if version == 2 and values.pop("cascade", None) is not None:
        raise ShrikeError(f"{card_file} describes an early-exit export, which is no longer supported; export it again")
    values = dict.fromkeys(ADDED.get(version, ())) | values | {"version": VERSION}  # in the current format
    card = records.build(ModelCard, values, str(card_file))
    if verify:
        name = Path(path).name
        if name != card_file.name and name not in card.files:
            raise ShrikeError(
                f"{card_file} does not speak for {name}, only for {', '.join(sorted(card.files))}: name one of these"
            )
        for spoken_for in sorted(card.files) if name == card_file.name else [name]:
            verify_file(card_file, spoken_for, card.files[spoken_for])
    return card


def write_card(path: str | os.PathLike[str], card: ModelCard) -> Path:
    """Write model.json (a model's path means the card beside it); refuses what read_card would refuse."""
    target = card_path(path)
    text = records.text(card)
    records.build(ModelCard, records.parse(text.encode(), target.name), target.name)
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return target


def _read_whole(path: Path) -> bytes:
    """A card's bytes, no more than a card can have; a pipe or device would never end."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_CARD:
            raise ShrikeError(f"{path} is no card: a file of at most {LARGEST_CARD >> 20} MiB was expected")
        with open(path, "rb") as file:
            return file.read(LARGEST_CARD + 1)
    except OSError as error:
        raise ShrikeError(f"{path} cannot be read: {error.strerror}") from error
