"""Other projects' detectors as ONNX files that take a waveform of a fixed length.

    peer = PeerScorer(Path("aasist.onnx"), parse_input("waveform:64600"), build_sound_cache(...))
    score_of = peer.open()
    score_of(samples)                               # bona fide minus spoof, or the file's one score

A clip is cut to its first samples, or repeated up to the length, as the code of AASIST and RawNet2 does in evaluation.
An output of two columns is (spoof, bona fide), as theirs; docs/accuracy.md shows how to export them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.latency.peers import open_bare
from runtime.audio.features import RATE, Samples
from runtime.card.schema import require
from runtime.support.errors import ShrikeError
from train.data.cache import SoundCache

LONGEST = 60 * RATE  # samples of an input
FACTOR = np.float32(2.0**-15)  # full scale of cached sound


def parse_input(text: str) -> int:
    """The samples of waveform:64600."""
    kind, _, size = text.partition(":")
    fits = kind == "waveform" and size.isdecimal() and 0 < int(size) <= LONGEST
    require(fits, f"--peer-input {text}: expected waveform:SAMPLES at 16 kHz, as in waveform:64600")
    return int(size)


def open_peer(path: Path, size: int) -> Callable[[Samples], float]:
    """A function from samples (n,) at 16 kHz to a score; it has run once when it is returned."""
    session = open_bare(path, threads=1)
    inputs = session.get_inputs()
    require(len(inputs) == 1, f"{path.name}: {len(inputs)} inputs; expected one, the waveform")
    shape = (1,) * (len(inputs[0].shape) - 1) + (size,)  # (batch, samples) or (batch, 1, samples)

    def score_of(samples: Samples) -> float:
        waveform = np.resize(samples[:size], shape).astype(np.float32)
        try:
            found = [np.asarray(values, np.float64).ravel() for values in session.run(None, {inputs[0].name: waveform})]
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise ShrikeError(f"{path.name}: fails on {size} samples ({reason}); see --peer-input") from error
        (values, *others) = [values for values in found if values.size in (1, 2)] or [np.empty(0)]
        require(
            values.size > 0 and not others,
            f"{path.name}: outputs of {[values.size for values in found]} values; expected one of 2, spoof and bona "
            "fide, or one of 1, a score; export that output alone",
        )
        return float(values[-1] - (values[0] if values.size == 2 else 0.0))

    score_of(np.random.default_rng(0).standard_normal(size, np.float32))
    return score_of


@dataclass(frozen=True)
class PeerScorer:
    """A peer and the sound of the clips; benchmarks.accuracy.scoring opens it in every process."""

    path: Path
    samples: int  # of its input
    cache: SoundCache
    alone = False  # whether one process must do all the work

    def open(self) -> Callable[[Sequence[int]], list[float]]:
        score_of = open_peer(self.path, self.samples)
        return lambda clips: [score_of(self.cache.samples(clip) * FACTOR) for clip in clips]
