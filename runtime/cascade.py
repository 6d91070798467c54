"""Early exit, as a card says it: the files a network is cut into, and when its answer is certain enough to stop.

    window -> segment -> map -> segment -> map -> segment -> logits
                 |                 |
              logits            logits        LLR <= low: spoof, LLR >= high: bona fide; the rest is not computed

The thresholds were chosen on development trials for a stated loss (export.policy). runtime.engines.cascade runs it.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from runtime.entries import LARGEST_DIMENSION, LARGEST_STATE, demand
from runtime.errors import ShrikeError
from runtime.hashes import check_name

MOST_SEGMENTS = 4  # a network has four stages


@dataclass(frozen=True)
class Map:
    """What one segment hands to the next, for one window."""

    name: str  # of the tensor, in both graphs
    shape: tuple[int, ...]  # (1, channels, bands, frames)
    type: Literal["float32", "uint8"]

    def __post_init__(self) -> None:
        demand(bool(self.name), "a map without a name")
        fits = len(self.shape) > 1 and self.shape[0] == 1 and all(0 < size <= LARGEST_DIMENSION for size in self.shape)
        demand(fits and math.prod(self.shape) <= LARGEST_STATE, f"map {self.name}: shape {list(self.shape)}")


@dataclass(frozen=True)
class Segment:
    """One file of a cascade, and what is done with what it says."""

    file: str  # one of the card's files
    exit: int  # the stage at whose end its classifier stands; the last segment's is the network's own
    logits: str  # name of the output
    map: Map | None  # the other output; the last segment has none
    multiply_adds: int  # for one window, of all segments up to this one
    scale: float  # log-likelihood ratio = scale * score + offset: fitted for this exit
    offset: float
    low: float | None  # an LLR at or below it stops with spoof; None: none does
    high: float | None  # an LLR at or above it stops with bona fide

    def __post_init__(self) -> None:
        check_name(self.file)
        demand(bool(self.logits) and (self.map is None or self.map.name != self.logits), f"{self.file}: two outputs")
        demand(1 <= self.exit <= MOST_SEGMENTS, f"exit {self.exit}: 1 to {MOST_SEGMENTS} was expected")
        demand(self.multiply_adds > 0, f"multiply_adds {self.multiply_adds}: a positive number was expected")
        demand(self.scale > 0, f"scale {self.scale}: a positive factor was expected, or higher would not be bona fide")
        ordered = self.low is None or self.high is None or self.low <= self.high
        demand(ordered, f"low {self.low}, high {self.high}: the lower threshold first")

    def llr(self, score: float) -> float:
        return self.scale * score + self.offset

    def stops(self, llr: float) -> bool:
        """Whether so much is certain enough."""
        return (self.low is not None and llr <= self.low) or (self.high is not None and llr >= self.high)


@dataclass(frozen=True)
class Tradeoff:
    """What a cascade saves and costs on its development trials, both classes weighed alike. Losses are in bit."""

    trials: str  # in words
    max_loss: float  # what was allowed: by how much Cllr may exceed the whole network's
    loss: float  # by how much it does, on trials that chose neither thresholds nor maps (cross-validation)
    loss_limit: float  # upper end of its one-sided 95 % interval: what was held against max_loss
    multiply_adds: float  # mean for a window, there
    loss_fitted: float  # the final thresholds, on the trials that chose them
    multiply_adds_fitted: float
    eer_whole: float  # of the whole network on these trials
    eer: float  # of the cascade
    decided: tuple[float, ...]  # share of windows that each segment decides

    def __post_init__(self) -> None:
        rates = (self.eer_whole, self.eer, *self.decided)
        demand(all(0 <= rate <= 1 for rate in rates), "an EER and a share lie from 0 to 1")
        demand(self.loss <= self.loss_limit, "an interval ends below its middle")
        demand(self.multiply_adds > 0 and self.multiply_adds_fitted > 0, "mean multiply-adds above 0 were expected")


@dataclass(frozen=True)
class Cascade:
    """A network in segments."""

    segments: tuple[Segment, ...]
    dev: Tradeoff

    def __post_init__(self) -> None:
        parts, last = self.segments, self.segments[-1] if self.segments else None
        demand(2 <= len(parts) <= MOST_SEGMENTS, f"{len(parts)} segments; 2 to {MOST_SEGMENTS} were expected")
        for one, following in itertools.pairwise(parts):
            demand(one.exit < following.exit, "the segments' exits do not rise")
            demand(one.multiply_adds < following.multiply_adds, "a segment that costs nothing")
        demand(len({part.file for part in parts}) == len(parts), "two segments share a file")
        demand(all((part.map is None) == (part is last) for part in parts), "every segment but the last hands on a map")
        assert last is not None
        demand(last.low is None and last.high is None, "the last segment decides always: it has no thresholds")
        demand(len(self.dev.decided) == len(parts), "a share for every segment was expected")


@dataclass(frozen=True)
class Depth:
    """How far into the network the windows of a stream went."""

    decided: dict[str, float]  # exit -> share of scores
    multiply_adds: float  # mean for a score
    whole: int  # of the whole network

    def line(self) -> str:
        """In a few words, for a person."""
        shares = ", ".join(f"exit {exit} {100 * share:.0f} %" for exit, share in self.decided.items())
        return f"decided by {shares}: {100 * self.multiply_adds / self.whole:.0f} % of the multiply-adds"


def depth(cascade: Cascade, decided: "Counter[int]") -> Depth | None:
    """From how often each exit decided; None before any did."""
    count = sum(decided.values())
    if not count:
        return None
    shares = {part: decided[part.exit] / count for part in cascade.segments}
    mean = sum(part.multiply_adds * share for part, share in shares.items())
    whole = cascade.segments[-1].multiply_adds
    return Depth({str(part.exit): share for part, share in shares.items()}, mean, whole)


def find_cascade(name: str, cascade: Cascade | None) -> Cascade:
    """A card's cascade, or what to do where it has none."""
    if cascade is None:
        raise ShrikeError(
            f"--cascade: {name} has none, its card names no segments; leave --cascade out, or write one from the "
            "checkpoint of a self-distilled network: python -m export.cascade model.pt --calibration CORPUS"
        )
    return cascade
