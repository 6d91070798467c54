"""The entries of a model card as frozen dataclasses that check their ranges.

    ScoreMap(scale=2.0, offset=0.5, threshold=-0.25, fitted_on="dev").llr(raw)

runtime.card.model_card combines them, and reads and writes the card.
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from runtime.card.checksums import check_sha256
from runtime.support.errors import ShrikeError

SURE = 0.7  # P(spoof) from which a verdict claims spoof where nothing else was chosen
LARGEST_DIMENSION = 65_536  # of a tensor, as for the front-end's window
ANY_BATCH = -1  # as a tensor's first dimension, TensorRT's convention
MOST_EXITS = 12  # layers of the largest encoder
MOST_STATES = 512  # state tensors of a streaming network; our largest has about a hundred
LARGEST_STATE = 1 << 24  # values of one state tensor, for one stream

Precision = Literal["fp32", "fp16", "int8"]
Number = TypeVar("Number", float, np.ndarray[Any, Any])


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ShrikeError(message)


@dataclass(frozen=True)
class Network:
    """The deployed network."""

    name: str  # ecanet9, senet50, ...
    width: float  # factor on every channel count
    exit: int  # of 4, of an encoder's layers: the last is the whole network; shallow ones are trained by distillation

    def __post_init__(self) -> None:
        require(0 < self.width <= 4, f"width {self.width}: expected a factor above 0 and at most 4")
        require(1 <= self.exit <= MOST_EXITS, f"exit {self.exit}: expected 1 to {MOST_EXITS}")


@dataclass(frozen=True)
class TensorSpec:
    """Name and shape of a graph's input or output; a first dimension of -1 takes any batch."""

    name: str
    shape: tuple[int, ...]  # (batch, 1, bands, frames) or (batch, 2)

    def __post_init__(self) -> None:
        require(bool(self.name), "expected a name")
        batch, rest = self.shape[:1], self.shape[1:]
        fits = batch == (ANY_BATCH,) or all(0 < size <= LARGEST_DIMENSION for size in batch)
        fits = fits and len(self.shape) >= 2 and all(0 < size <= LARGEST_DIMENSION for size in rest)
        require(fits, f"shape {list(self.shape)}: expected sizes from 1 to {LARGEST_DIMENSION:,}, or -1 for the batch")


@dataclass(frozen=True)
class StateTensor:
    """One state of a streaming network: the graph reads it from `input` and writes the next one to `output`."""

    input: str
    output: str
    shape: tuple[int, ...]  # of one stream; the graph's tensor has the batch in front
    type: Literal["float32", "uint8"]
    reset: tuple[float, ...]  # initial values: one for all, or one for each index of the first dimension

    def __post_init__(self) -> None:
        require(bool(self.input) and bool(self.output), "a state: expected the names of an input and an output")
        fits = bool(self.shape) and all(0 < size <= LARGEST_DIMENSION for size in self.shape)
        fits = fits and math.prod(self.shape) <= LARGEST_STATE
        require(fits, f"state {self.input}: shape {list(self.shape)}: expected 1 to {LARGEST_STATE:,} values")
        sizes = (1, self.shape[0])
        require(
            len(self.reset) in sizes, f"state {self.input}: {len(self.reset)} reset values; expected 1 or {sizes[1]}"
        )
        bytes_only = self.type != "uint8" or all(value in range(256) for value in self.reset)
        require(bytes_only, f"state {self.input}: expected whole reset values from 0 to 255")


@dataclass(frozen=True)
class State:
    """Inputs of a streaming network: the new frames of a step and the states."""

    frames: int  # new frames a step
    tensors: tuple[StateTensor, ...]

    def __post_init__(self) -> None:
        require(0 < self.frames <= LARGEST_DIMENSION, f"frames {self.frames}: expected at least one new frame a step")
        require(0 < len(self.tensors) <= MOST_STATES, f"{len(self.tensors)} states; expected 1 to {MOST_STATES}")
        names = [name for tensor in self.tensors for name in (tensor.input, tensor.output)]
        require(len(set(names)) == len(names), "two states share a name; expected unique names")


@dataclass(frozen=True)
class ScoreMap:
    """Map from raw scores to log-likelihood ratios. Raw scores are logit(bona fide) - logit(spoof), as in ASVspoof.

    Verdicts follow from the log-likelihood ratio, the prior and `sure`. The threshold is for readers of raw scores.
    """

    scale: float  # log-likelihood ratio = scale * score + offset
    offset: float
    threshold: float  # on the raw score; trials at or above it count as bona fide
    fitted_on: str | None  # the trials that scale and offset were fitted on; None: not fitted, 1 and 0
    sure: float = field(default=SURE, metadata={"before": SURE})  # operating point: P(spoof) that claims spoof

    def __post_init__(self) -> None:
        require(self.scale > 0, f"scale {self.scale}: expected a positive factor, so that higher means bona fide")
        require(0.5 < self.sure < 1, f"sure {self.sure}: expected a probability above 0.5 and below 1")
        identity = (self.scale, self.offset) == (1.0, 0.0)
        require(self.fitted_on is not None or identity, "fitted_on is null: expected scale 1 and offset 0")

    def llr(self, score: Number) -> Number:
        """Convert raw scores to log-likelihood ratios."""
        return self.scale * score + self.offset


@dataclass(frozen=True)
class Accuracy:
    """Accuracy of this model and of the float one on the same trials; rates are fractions, intervals at 95 %."""

    measured: bool  # false: the trials had no labels, or there were none
    reason: str  # why no EER was measured; empty if it was
    partition: str | None  # description of the trials
    trials: int
    eer_float: float | None
    eer: float | None
    eer_change_interval: tuple[float, float] | None  # of eer - eer_float
    min_tdcf_float: float | None  # None without the organisers' speaker verification scores
    min_tdcf: float | None
    correlation: float | None  # of both models' scores
    largest_change: float | None  # of a raw score

    def __post_init__(self) -> None:
        require(self.trials >= 0, f"trials {self.trials}: expected 0 or more")
        rates = [rate for rate in (self.eer_float, self.eer) if rate is not None]
        require(all(0 <= rate <= 1 for rate in rates), f"eer {rates}: expected fractions from 0 to 1")
        costs = [cost for cost in (self.min_tdcf_float, self.min_tdcf) if cost is not None]
        require(all(0 <= cost <= 100 for cost in costs), f"min_tdcf {costs}: expected 0 to 100")
        require(abs(self.correlation or 0) <= 1, f"correlation {self.correlation}: expected -1 to 1")
        require((self.largest_change or 0) >= 0, f"largest_change {self.largest_change}: expected 0 or more")
        low, high = self.eer_change_interval or (0.0, 0.0)
        require(
            -1 <= low <= high <= 1, f"eer_change_interval {low}, {high}: expected a lower and an upper end in -1 to 1"
        )
        complete = self.eer is not None and self.eer_float is not None and self.trials > 0
        require(complete or not self.measured, "measured: expected eer, eer_float and trials")
        require(self.measured or bool(self.reason), "measured is false: expected a reason")


@dataclass(frozen=True)
class Calibration:
    """The trials that set the INT8 ranges."""

    method: Literal["min-max", "entropy", "percentile"]
    corpus: str  # identity of the corpus's partition
    partition: str
    trials: int
    trials_sha256: str  # of the utterances' names, one a line
    classes: dict[str, int]  # trials by key
    attacks: dict[str, int]  # trials by attack
    silence: float  # share of frames far below their window's loudest frame

    def __post_init__(self) -> None:
        require(self.trials > 0, f"trials {self.trials}: expected at least 1")
        require(0 <= self.silence <= 1, f"silence {self.silence}: expected a share from 0 to 1")
        check_sha256(self.trials_sha256, "trials_sha256")
        counts = [*self.classes.values(), *self.attacks.values()]
        require(
            all(0 <= count <= self.trials for count in counts), "classes, attacks: expected at most `trials` of each"
        )


@dataclass(frozen=True)
class Quantisation:
    """Settings and results of the quantisation."""

    method: Literal["ptq", "qat"]  # post-training, or fine-tuned with fake quantisation
    activations: Literal["int8", "uint8"]  # int8: symmetric, for TensorRT; uint8: for CPUs
    float_layers: dict[str, str]  # layers with weights that stay float -> reason


@dataclass(frozen=True)
class Training:
    """Origin of the float network."""

    corpus: dict[str, str]  # partition -> identity of its trials
    epochs: int
    seed: int
    distill: bool
    settings: dict[str, Any]  # options of python -m train, without folders and devices

    def __post_init__(self) -> None:
        require(self.epochs >= 0, f"epochs {self.epochs}: expected 0 or more")


@dataclass(frozen=True)
class Origin:
    """Software that wrote the files."""

    shrike: str
    packages: dict[str, str]  # onnx, onnxruntime, torch, ...


@dataclass(frozen=True)
class TensorRT:
    """Build record of an engine, which runs on this TensorRT version, GPU model and system alone."""

    version: str  # 10.3.0
    gpu: str  # CUDA's name: Orin
    capability: str  # 8.7
    l4t: str | None  # version of a Jetson's system; None on other machines
    onnx_sha256: str  # of the ONNX file from which the engine was built
    workspace: int  # MiB
    precision: Precision
    not_int8: tuple[str, ...]  # layers of an INT8 engine that compute in float, by the engine inspector's names
    trials: int  # on which the engine was compared with the ONNX file; 0: it was not
    largest_change: float | None  # of a raw score, over those trials

    def __post_init__(self) -> None:
        require(bool(re.fullmatch(r"\d+\.\d+", self.capability)), f"capability {self.capability!r}: expected as in 8.7")
        require(self.workspace > 0, f"workspace {self.workspace}: expected at least 1 MiB")
        require(self.trials >= 0, f"trials {self.trials}: expected 0 or more")
        measured = self.largest_change is not None
        require((self.trials > 0) == measured, "largest_change: expected a number with trials, null without")
        check_sha256(self.onnx_sha256, "onnx_sha256")
