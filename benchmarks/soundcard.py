"""A sound card that code makes: to the real Microphone it delivers given samples at their own pace, as PortAudio would.

    card = SoundCard(samples, 48_000, stop)
    source = Microphone(None, 16_000, stop, devices=card)

Only the device is made up. The callback, the bounded queue that drops and counts, and the resampler are the product's,
so that what a machine that is too slow loses is lost and counted here as well. When the samples are over, it asks
`stop` to end the stream.
"""

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from runtime.audio.features import Samples
from runtime.support.shutdown import Stop

LINGERS = 1.0  # s after the last block, in which what waits in the queue is still scored; a Microphone waits for 2


class SoundCard:
    """What runtime.sources.microphone uses of the package sounddevice."""

    class PortAudioError(Exception):
        """What this device does not do."""

    def __init__(self, samples: Samples, rate: int, stop: Stop) -> None:
        self.samples, self.rate, self._stop = samples, rate, stop
        self.began = 0.0  # s of time.monotonic(): when the first sample was spoken
        self.delivered = 0  # samples
        self.finished = False  # all whole blocks were delivered, and nobody stopped us before

    def query_devices(self, device: Any = None, kind: str | None = None) -> dict[str, Any]:
        return {"index": 0, "name": "made sound card", "max_input_channels": 1, "default_samplerate": float(self.rate)}

    def InputStream(self, samplerate: int, channels: int, blocksize: int, callback: Any, **_: Any) -> "_Stream":  # noqa: N802 - sounddevice's name
        if samplerate != self.rate or channels != 1:
            raise self.PortAudioError(f"{samplerate} Hz in {channels} channels")
        return _Stream(lambda: self._play(blocksize, callback))

    def _play(self, size: int, callback: Callable[..., None]) -> None:
        status = SimpleNamespace(input_overflow=False)
        self.began = time.monotonic()
        for start in range(0, len(self.samples) - size + 1, size):
            self._sleep_until(self.began + (start + size) / self.rate)
            if self._stop.requested:
                return
            callback(self.samples[start : start + size, None], size, None, status)
            self.delivered += size
        self.finished = True
        self._sleep_until(time.monotonic() + LINGERS)
        self._stop.request()

    @staticmethod
    def _sleep_until(due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)


class _Stream:
    """A thread in PortAudio's place."""

    def __init__(self, play: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=play, daemon=True)

    @property
    def active(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def abort(self, **_: Any) -> None:
        """The thread ends by itself, when stop is requested."""

    def close(self, **_: Any) -> None:
        self._thread.join()
