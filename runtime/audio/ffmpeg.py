"""Decode containers that libsndfile cannot open with the program ffmpeg, in a child process.

    sound = FfmpegSound("call.m4a")
    block = sound.read(24_000)                 # (n, 1) float32 at 48 kHz; (0, 1) at the end
    sound.close()

ffmpeg gets one local file, opens nothing else (`-protocol_whitelist file`), and decodes the first audio stream as mono.
"""

import os
import shutil
import subprocess
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.support.errors import AudioError

RATE = 48_000  # Hz that ffmpeg delivers; of the usual rates, no other holds more
SHOWN = 200  # characters of ffmpeg's own message
PATIENCE = 5.0  # s for a stopped child to end


class FfmpegSound:
    """Reads like soundfile.SoundFile, as far as runtime.sources.file needs it."""

    samplerate = RATE

    def __init__(self, path: str | os.PathLike[str], reason: str) -> None:
        """`reason`: why libsndfile cannot open the file, for the error."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(f"{reason}; ffmpeg may open it, but is not installed: sudo apt install ffmpeg")
        name = b"file:" + os.fsencode(os.path.abspath(path))  # neither an option nor another protocol
        options = f"-map 0:a:0 -vn -sn -dn -ac 1 -ar {RATE} -f f32le pipe:1".split()
        self._process = subprocess.Popen(
            [program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i", os.fsdecode(name), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._first = self.read(1)  # a file that cannot be decoded fails here
        if not len(self._first):
            problem = self.problem() or "no sound in it"
            self.close()
            raise AudioError(f"{reason}; nor by ffmpeg ({problem})")

    def read(self, frames: int, **form: Any) -> NDArray[np.float32]:
        """Return up to `frames` frames, (n, 1); fewer only at the end."""
        first, self._first = getattr(self, "_first", np.empty((0, 1), np.float32)), np.empty((0, 1), np.float32)
        assert self._process.stdout
        data = self._process.stdout.read(4 * (frames - len(first)))
        whole = np.frombuffer(data[: len(data) // 4 * 4], "<f4").astype(np.float32)[:, None]
        return np.concatenate([first, whole]) if len(first) else whole

    def problem(self) -> str:
        """Return ffmpeg's last message, once the sound has ended."""
        assert self._process.stderr
        lines = self._process.stderr.read().decode(errors="replace").split("\n")
        last = [" ".join(line.split()) for line in lines if line.strip()]
        return last[-1][:SHOWN] if last else ""

    def close(self) -> None:
        """End the child process."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(PATIENCE)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
