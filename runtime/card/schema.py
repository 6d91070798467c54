"""The entries of a card: a record for each, and the ranges it holds its values to.

    ScoreMap(scale=2.0, offset=0.5, threshold=-0.25, fitted_on="dev").llr(raw)

runtime.card.model_card puts them together, and reads and writes the whole.
"""

import math
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from runtime.card.checksums import check_sha256
from runtime.support.errors import ShrikeError

LARGEST_DIMENSION = 65_536  # of a tensor, as for the front-end's window
ANY_BATCH = -1  # as a tensor's first dimension, in TensorRT's manner
MOST_STATES = 512  # tensors that a network remembers; our largest has about a hundred
LARGEST_STATE = 1 << 24  # values of one of them, for one stream

Precision = Literal["fp32", "fp16", "int8"]
Number = TypeVar("Number", float, np.ndarray[Any, Any])


def require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ShrikeError(sentence)


@dataclass(frozen=True)
class Network:
    """Which network was deployed."""

    name: str  # ecanet9, senet50, ...
    width: float  # factor on every channel count
    exit: int  # 4: the whole network; 1 to 3: a shallow one that self-distillation taught

    def __post_init__(self) -> None:
        require(0 < self.width <= 4, f"width {self.width}: a factor above 0 and at most 4 was expected")
        require(1 <= self.exit <= 4, f"exit {self.exit}: 1, 2, 3 or 4 was expected")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the graph; a first dimension of -1 takes any batch."""

    name: str
    shape: tuple[int, ...]  # (batch, 1, bands, frames) or (batch, 2)

    def __post_init__(self) -> None:
        require(bool(self.name), "a name was expected")
        batch, rest = self.shape[:1], self.shape[1:]
        fits = batch == (ANY_BATCH,) or all(0 < size <= LARGEST_DIMENSION for size in batch)
        fits = fits and len(self.shape) >= 2 and all(0 < size <= LARGEST_DIMENSION for size in rest)
        require(
            fits, f"shape {list(self.shape)}: sizes from 1 to {LARGEST_DIMENSION:,}, or -1 as the batch, were expected"
        )


@dataclass(frozen=True)
class StateTensor:
    """What a network that remembers keeps of one stream: it goes in as `input` and comes out, renewed, as `output`."""

    input: str
    output: str
    shape: tuple[int, ...]  # of one stream; the graph's tensor has the batch in front
    type: Literal["float32", "uint8"]
    reset: tuple[float, ...]  # what a stream begins with: one value for all, or one for each of the first dimension

    def __post_init__(self) -> None:
        require(bool(self.input) and bool(self.output), "a state has two names, one of an input and one of an output")
        fits = bool(self.shape) and all(0 < size <= LARGEST_DIMENSION for size in self.shape)
        require(fits and math.prod(self.shape) <= LARGEST_STATE, f"state {self.input}: shape {list(self.shape)}")
        require(
            len(self.reset) in (1, self.shape[0]),
            f"state {self.input}: {len(self.reset)} reset values; 1 or {self.shape[0]} were expected",
        )
        whole = self.type != "uint8" or all(value in range(256) for value in self.reset)
        require(whole, f"state {self.input}: whole reset values from 0 to 255 were expected")


@dataclass(frozen=True)
class State:
    """A network that remembers: it is given the newest frames alone, and its state."""

    frames: int  # new ones a step
    tensors: tuple[StateTensor, ...]

    def __post_init__(self) -> None:
        require(0 < self.frames <= LARGEST_DIMENSION, f"frames {self.frames}: at least one new frame a step")
        require(0 < len(self.tensors) <= MOST_STATES, f"{len(self.tensors)} states; 1 to {MOST_STATES} were expected")
        names = [name for tensor in self.tensors for name in (tensor.input, tensor.output)]
        require(len(set(names)) == len(names), "two states share a name")


@dataclass(frozen=True)
class ScoreMap:
    """What a score means. The raw score is logit(bona fide) - logit(spoof): higher is bona fide, as in ASVspoof.

    Verdicts come from the likelihood ratio, the prior and --sure; the threshold is for whoever reads raw scores, and
    the runtime shows it beside them.
    """

    scale: float  # log-likelihood ratio = scale * score + offset
    offset: float
    threshold: float  # on the raw score; at or above it a trial counts as bona fide
    fitted_on: str | None  # the trials that scale and offset were fitted on; None: not fitted, 1 and 0

    def __post_init__(self) -> None:
        require(self.scale > 0, f"scale {self.scale}: a positive factor was expected, or higher would not be bona fide")
        honest = self.fitted_on is not None or (self.scale, self.offset) == (1.0, 0.0)
        require(honest, "not fitted on any trials: scale 1 and offset 0 were expected")

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
        require(self.trials >= 0, f"trials {self.trials}: a number of trials was expected")
        rates = [rate for rate in (self.eer_float, self.eer) if rate is not None]
        require(all(0 <= rate <= 1 for rate in rates), "an EER is a fraction from 0 to 1")
        costs = [cost for cost in (self.min_tdcf_float, self.min_tdcf) if cost is not None]
        require(all(0 <= cost <= 100 for cost in costs), "a min t-DCF from 0 to 100 was expected")
        require(self.correlation is None or abs(self.correlation) <= 1, "a correlation lies from -1 to 1")
        require(self.largest_change is None or self.largest_change >= 0, "the largest change is at least 0")
        low, high = self.eer_change_interval or (0.0, 0.0)
        require(-1 <= low <= high <= 1, "the interval of the EER's change lies from -1 to 1, its lower end first")
        if self.measured:
            require(self.eer is not None and self.eer_float is not None and self.trials > 0, "measured, but no EER")
        else:
            require(bool(self.reason), "not measured, but no reason is given")


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
        require(self.trials > 0, f"trials {self.trials}: at least one was expected")
        require(0 <= self.silence <= 1, f"silence {self.silence}: a share from 0 to 1 was expected")
        check_sha256(self.trials_sha256, "trials_sha256")
        counts = [*self.classes.values(), *self.attacks.values()]
        require(all(0 <= count <= self.trials for count in counts), "more trials of a kind than trials")


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
        require(self.epochs >= 0, f"epochs {self.epochs}: 0 or more was expected")


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
        require(bool(re.fullmatch(r"\d+\.\d+", self.capability)), f"capability {self.capability!r}: as in 8.7")
        require(self.workspace > 0, f"workspace {self.workspace}: a positive number of MiB was expected")
        require(self.trials >= 0, f"trials {self.trials}: 0 or more was expected")
        require(
            (self.trials > 0) == (self.largest_change is not None), "largest_change belongs to trials that were run"
        )
        check_sha256(self.onnx_sha256, "onnx_sha256")
