"""Record the sound that was scored: mono FLAC at the model's rate, 24 bits; scoring the file gives the same scores.

    recorder = Recorder(Path("evening.flac"), say)

The file grows under a temporary name and is renamed at the end. A full disk ends the recording, not the stream; what
was written before remains. Gaps are not in the file: the sound before and after one is joined.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from runtime.audio.features import Samples
from runtime.sinks import Sink, StreamInfo
from runtime.summary import Summary
from runtime.support.atomic import atomic_file, write_problem
from runtime.support.errors import ShrikeError

SUBTYPE = "PCM_24"  # 144 dB: the quietest frames stay above the front-end's floor


class Recorder(Sink):
    """Records the first source to one file."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._path, self._say = path, say
        self._stack = ExitStack()
        self._recording = False

    def begin(self, info: StreamInfo) -> None:
        import soundfile

        try:
            temporary = self._stack.enter_context(atomic_file(self._path))
            self._sound = self._stack.enter_context(
                soundfile.SoundFile(str(temporary), "w", info.rate, 1, SUBTYPE, format="FLAC")
            )
        except (OSError, RuntimeError) as error:  # libsndfile's own is a RuntimeError
            raise ShrikeError(f"--record {self._path}: cannot be written ({' '.join(str(error).split())})") from error
        self._recording = True

    def sound(self, samples: Samples) -> None:
        if not self._recording or not len(samples):
            return
        try:
            self._sound.write(np.clip(samples, -1.0, 1.0))
        except (OSError, RuntimeError, AssertionError) as error:  # AssertionError: fewer samples written than asked
            self._fail(f"the recording has ended, scoring goes on ({write_problem(error, self._path.parent)})")

    def end(self, summary: Summary) -> None:
        self._stop()

    def close(self) -> None:
        self._stop()

    def _fail(self, message: str) -> None:
        self.failed = True
        self._say(f"--record {self._path}: {message}")
        self._stop()

    def _stop(self) -> None:
        self._recording = False
        stack, self._stack = self._stack.pop_all(), ExitStack()
        try:
            stack.close()
        except (OSError, RuntimeError, ShrikeError) as error:
            self._fail(f"the recording may be incomplete ({write_problem(error, self._path.parent)})")
