"""model.json: what a deployed model is, beside model.onnx or model.engine and with the same stem.

    card = read_card("deploy/model.onnx")        # the card beside it, and the hash of that file
    card = read_card("deploy/model.json")        # the same card, and the hash of every file it speaks for
    llr = card.score.llr(logits[:, 1] - logits[:, 0])
    write_card("deploy/model.onnx", card)        # model.json, whole or not at all

A card may come from anybody, so it is read as hostile: runtime.records holds every entry to its type, the classes
below to their ranges, and no name of a file leads out of the card's folder.
"""

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from runtime import records
from runtime.errors import ShrikeError
from runtime.features import FrontEnd
from runtime.files import whole_file
from runtime.hashes import check_hash, check_name, verify_file
from runtime.hashes import sha256_file as sha256_file  # part of what a card's writer needs

VERSION = 1  # of the card's form; another one is another Shrike's
LARGEST_CARD = 1 << 20  # bytes; ours have a few thousand
MOST_FILES = 16  # of one export
LARGEST_DIMENSION = 65_536  # of a tensor, as for the front-end's window
ANY_BATCH = -1  # as a tensor's first dimension, in TensorRT's manner
CREATED = "%Y-%m-%dT%H:%M:%SZ"  # UTC
OUTPUTS = 2  # logits: spoof, bona fide

Precision = Literal["fp32", "fp16", "int8"]
Target = Literal["cpu", "tensorrt", "any"]
Number = TypeVar("Number", float, np.ndarray[Any, Any])


def _demand(holds: bool, sentence: str) -> None:
    if not holds:
        raise ShrikeError(sentence)


@dataclass(frozen=True)
class Network:
    """Which network was deployed."""

    name: str  # ecanet9, senet50, ...
    width: float  # factor on every channel count
    exit: int  # 4: the whole network; 1 to 3: a shallow one that self-distillation taught

    def __post_init__(self) -> None:
        _demand(0 < self.width <= 4, f"width {self.width}: a factor above 0 and at most 4 was expected")
        _demand(1 <= self.exit <= 4, f"exit {self.exit}: 1, 2, 3 or 4 was expected")


@dataclass(frozen=True)
class Port:
    """An input or output of the graph; a first dimension of -1 takes any batch."""

    name: str
    shape: tuple[int, ...]  # (batch, 1, bands, frames) or (batch, 2)

    def __post_init__(self) -> None:
        _demand(bool(self.name), "a name was expected")
        batch, rest = self.shape[:1], self.shape[1:]
        fits = batch == (ANY_BATCH,) or all(0 < size <= LARGEST_DIMENSION for size in batch)
        fits = fits and len(self.shape) >= 2 and all(0 < size <= LARGEST_DIMENSION for size in rest)
        _demand(
            fits, f"shape {list(self.shape)}: sizes from 1 to {LARGEST_DIMENSION:,}, or -1 as the batch, were expected"
        )


@dataclass(frozen=True)
class Score:
    """What a score means. The raw score is logit(bona fide) - logit(spoof): higher is bona fide, as in ASVspoof.

    Verdicts come from the likelihood ratio, the prior and --sure; the threshold is for whoever reads raw scores, and
    the runtime shows it beside them.
    """

    scale: float  # log-likelihood ratio = scale * score + offset
    offset: float
    threshold: float  # on the raw score; at or above it a trial counts as bona fide
    fitted_on: str | None  # the trials that scale and offset were fitted on; None: not fitted, 1 and 0

    def __post_init__(self) -> None:
        _demand(self.scale > 0, f"scale {self.scale}: a positive factor was expected, or higher would not be bona fide")
        honest = self.fitted_on is not None or (self.scale, self.offset) == (1.0, 0.0)
        _demand(honest, "not fitted on any trials: scale 1 and offset 0 were expected")

    def llr(self, score: Number) -> Number:
        """Raw scores as log-likelihood ratios."""
        return self.scale * score + self.offset


@dataclass(frozen=True)
class Accuracy:
    """How this model did against the float one on the same trials; rates are fractions, intervals at 95 %."""

    measured: bool  # false: the trials had no labels, or there were none
    reason: str  # why EER was not measured; empty if it was
    partition: str | None  # which trials, in words
    trials: int
    eer_float: float | None
    eer: float | None
    eer_change_interval: tuple[float, float] | None  # of eer - eer_float
    min_tdcf_float: float | None  # None without the organisers' speaker verification scores
    min_tdcf: float | None
    correlation: float | None  # of both models' scores
    largest_change: float | None  # of a raw score

    def __post_init__(self) -> None:
        _demand(self.trials >= 0, f"trials {self.trials}: a number of trials was expected")
        rates = [rate for rate in (self.eer_float, self.eer) if rate is not None]
        _demand(all(0 <= rate <= 1 for rate in rates), "an EER is a fraction from 0 to 1")
        costs = [cost for cost in (self.min_tdcf_float, self.min_tdcf) if cost is not None]
        _demand(all(0 <= cost <= 100 for cost in costs), "a min t-DCF from 0 to 100 was expected")
        _demand(self.correlation is None or abs(self.correlation) <= 1, "a correlation lies from -1 to 1")
        _demand(self.largest_change is None or self.largest_change >= 0, "the largest change is at least 0")
        low, high = self.eer_change_interval or (0.0, 0.0)
        _demand(-1 <= low <= high <= 1, "the interval of the EER's change lies from -1 to 1, its lower end first")
        if self.measured:
            _demand(self.eer is not None and self.eer_float is not None and self.trials > 0, "measured, but no EER")
        else:
            _demand(bool(self.reason), "not measured, but no reason is given")


@dataclass(frozen=True)
class Calibration:
    """The trials that set the INT8 ranges."""

    method: Literal["min-max", "entropy", "percentile"]
    corpus: str  # identity of the corpus' partition
    partition: str
    trials: int
    trials_sha256: str  # of the utterances' names, one a line
    classes: dict[str, int]  # trials by key
    attacks: dict[str, int]  # trials by attack
    silence: float  # share of frames that are far quieter than their window's loudest

    def __post_init__(self) -> None:
        _demand(self.trials > 0, f"trials {self.trials}: at least one was expected")
        _demand(0 <= self.silence <= 1, f"silence {self.silence}: a share from 0 to 1 was expected")
        check_hash(self.trials_sha256, "trials_sha256")
        counts = [*self.classes.values(), *self.attacks.values()]
        _demand(all(0 <= count <= self.trials for count in counts), "more trials of a kind than trials")


@dataclass(frozen=True)
class Quantisation:
    """How the INT8 network came about."""

    method: Literal["ptq", "qat"]  # post-training, or fine-tuned with fake quantisation
    activations: Literal["int8", "uint8"]  # int8: symmetric, what TensorRT takes; uint8: the twin for CPUs
    float_layers: dict[str, str]  # weighted layers that stay float, and why


@dataclass(frozen=True)
class Training:
    """Where the float network came from."""

    corpus: dict[str, str]  # partition -> identity of its trials
    epochs: int
    seed: int
    distill: bool
    settings: dict[str, Any]  # the recipe: options of python -m train, without folders and devices

    def __post_init__(self) -> None:
        _demand(self.epochs >= 0, f"epochs {self.epochs}: 0 or more was expected")


@dataclass(frozen=True)
class Origin:
    """What wrote the files."""

    shrike: str
    packages: dict[str, str]  # onnx, onnxruntime, torch, ...


@dataclass(frozen=True)
class TensorRT:
    """Where an engine runs: on this version, GPU model and system alone."""

    version: str  # 10.3.0
    gpu: str  # as CUDA names it: Orin
    capability: str  # 8.7
    l4t: str | None  # Jetson's system; None on other machines
    onnx_sha256: str  # of the ONNX file the engine was built from
    workspace: int  # MiB
    precision: Precision
    not_int8: tuple[str, ...]  # layers of an INT8 engine that compute in float, as the engine inspector names them
    trials: int  # on which the engine was held against the ONNX; 0: it was not
    largest_change: float | None  # of a raw score, over those trials

    def __post_init__(self) -> None:
        _demand(bool(re.fullmatch(r"\d+\.\d+", self.capability)), f"capability {self.capability!r}: as in 8.7")
        _demand(self.workspace > 0, f"workspace {self.workspace}: a positive number of MiB was expected")
        _demand(self.trials >= 0, f"trials {self.trials}: 0 or more was expected")
        _demand(
            (self.trials > 0) == (self.largest_change is not None), "largest_change belongs to trials that were run"
        )
        check_hash(self.onnx_sha256, "onnx_sha256")


@dataclass(frozen=True)
class ModelCard:
    """Everything the runtime and a person need to know about a deployed model."""

    version: int
    name: str
    created: str  # UTC, 2025-01-31T12:00:00Z
    network: Network
    frontend: FrontEnd
    input: Port  # raw log power; the graph applies the front-end's level itself
    output: Port  # logits (spoof, bona fide)
    precision: Precision  # of the ONNX graph; an engine's own stands in its record
    target: Target
    score: Score
    accuracy: Accuracy
    calibration: Calibration | None
    quantisation: Quantisation | None  # of an INT8 model, and only of one
    training: Training | None  # None: the float network's past is unknown
    files: dict[str, str]  # name -> sha256
    origin: Origin
    tensorrt: TensorRT | None  # of an engine, and only of one
    notes: tuple[str, ...]

    def __post_init__(self) -> None:
        _demand(bool(self.name), "the model has no name")
        try:
            time.strptime(self.created, CREATED)
        except ValueError:
            raise ShrikeError(f"created is {self.created!r}; a time as in 2025-01-31T12:00:00Z was expected") from None
        window = (1, self.frontend.bands, self.frontend.width)
        _demand(
            self.input.shape[1:] == window, f"input is {list(self.input.shape)}, but the front-end gives {list(window)}"
        )
        _demand(self.output.shape[1:] == (OUTPUTS,), f"output is {list(self.output.shape)}; (batch, 2) was expected")
        _demand(self.output.shape[0] == self.input.shape[0], "input and output have different batches")
        _demand((self.precision == "int8") == (self.quantisation is not None), "int8 and quantisation go together")
        _demand(0 < len(self.files) <= MOST_FILES, f"{len(self.files)} files; 1 to {MOST_FILES} were expected")
        for name, digest in self.files.items():
            check_name(name)
            check_hash(digest, name)
        engines = [name for name in self.files if name.endswith(".engine")]
        _demand(bool(engines) == (self.tensorrt is not None), "an engine and its TensorRT record go together")

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
            "python -m export.onnx and python -m export.trt write both"
        )
    values = records.parse(_read_whole(card_file), str(card_file))
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        raise ShrikeError(
            f"{card_file} has card version {records.show(version)}, this Shrike reads version {VERSION}; "
            "use the Shrike that wrote it (its entry origin.shrike), or export the model again"
        )
    card = records.build(ModelCard, values, str(card_file))
    if verify:
        name = Path(path).name
        if name != card_file.name and name not in card.files:
            raise ShrikeError(f"{card_file} does not speak for {name}, only for {', '.join(sorted(card.files))}")
        for spoken_for in sorted(card.files) if name == card_file.name else [name]:
            verify_file(card_file, spoken_for, card.files[spoken_for])
    return card


def write_card(path: str | os.PathLike[str], card: ModelCard) -> Path:
    """Write model.json (a model's path means the card beside it); refuses what read_card would refuse."""
    target = card_path(path)
    text = records.text(card)
    records.build(ModelCard, records.parse(text.encode(), target.name), target.name)
    with whole_file(target) as temporary:
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
