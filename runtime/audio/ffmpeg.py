"""Decode containers that libsndfile cannot open with the program ffmpeg, in a child process.

    sound = open_file("call.m4a")              # by libsndfile, else by ffmpeg
    block = sound.read(24_000, dtype="float32", always_2d=True)      # (n, channels); (0, channels) at the end
    sound.close()

ffmpeg decodes the first audio stream to a WAV stream of 32-bit floats. It opens the one file alone: through `file:`, so
that no name is taken for an option or an address, and as a container of sound or film, so that no playlist opens more.
"""

import os
import re
import resource
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.audio.containers import parse_wav
from runtime.audio.decode import UNKNOWN_FRAMES, UndecodableError, check_rate, mp3_states_length, open_sound
from runtime.support.errors import AudioError

if TYPE_CHECKING:
    import soundfile

# Demuxers, by one of their names each; none of them opens a second file.
CONTAINERS = (
    *("mov", "matroska", "ogg", "asf", "avi", "flv", "mpeg", "mpegts", "rm", "mxf", "wav", "w64", "aiff", "caf", "au"),
    *("flac", "mp3", "aac", "ac3", "eac3", "dts", "amr", "amrnb", "amrwb", "ape", "tta", "wv", "mpc", "mpc8", "gsm"),
)
PIPE_PROBE = ("-probesize", "100000", "-analyzeduration", "500000")  # bytes, us: a live stream must not wait for 5 s
OUTPUT = (
    *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"),
    *("-c:a", "pcm_f32le", "-flush_packets", "1", "-f", "wav", "pipe:1"),
)
SHOWN = 200  # characters of ffmpeg's own message
READ = 65_536  # bytes at most per read, a Linux pipe's size
MEMORY = 2**31  # bytes of address space; its libraries and threads take 0.6 GB
PATIENCE = 5.0  # s for a child to end
PREFIX = re.compile(r"^(\[[^\]]*\] *)+|^(file|pipe):.*: ")  # [mov,mp4 @ 0x55d8] or the name, in front of a message


def open_file(path: str | os.PathLike[str]) -> "soundfile.SoundFile | FfmpegSound":
    """Open any sound file. AudioError if it cannot be used; a damaged one may fail later."""
    try:
        sound = open_sound(path)
    except UndecodableError as error:
        return FfmpegSound(Ffmpeg(path, str(error)), str(error))
    if sound.format != "MP3" or mp3_states_length(path) or not shutil.which("ffmpeg"):
        return sound
    sound.close()  # libsndfile reads as much as it estimates, which may be the half
    reason = "its header states no length"
    return FfmpegSound(Ffmpeg(path, reason), reason)


class Ffmpeg:
    """A child process that decodes a file, or bytes that `feed` writes to it, to a WAV stream on `descriptor`."""

    def __init__(self, path: str | os.PathLike[str] | None, reason: str) -> None:
        """`path`: None for a pipe. `reason`: why ffmpeg is needed, for the error."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise AudioError(f"{reason}; ffmpeg may open it, but is not installed: sudo apt install ffmpeg")
        piped = path is None
        name = "pipe:0" if path is None else b"file:" + os.fsencode(os.path.abspath(path))
        try:
            self._process = subprocess.Popen(
                [
                    *(program, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe"),
                    *("-format_whitelist", ",".join(CONTAINERS), *(PIPE_PROBE if piped else ()), "-i", name),
                    *OUTPUT,
                ],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,  # a Ctrl-C is for the parent to handle
            )
        except OSError as error:
            raise AudioError(f"{reason}; ffmpeg cannot be started ({error.strerror or error})") from error
        limit_memory(self._process.pid)
        assert self._process.stdout
        self.descriptor = self._process.stdout.fileno()
        self._messages: deque[str] = deque(maxlen=1)
        self._drain = threading.Thread(target=self._read_messages, daemon=True)
        self._drain.start()

    def _read_messages(self) -> None:
        """Keep the last message; a full pipe of them would block the child."""
        assert self._process.stderr
        with suppress(OSError, ValueError):  # closed meanwhile
            for line in self._process.stderr:
                if text := " ".join(line[: 2 * SHOWN].decode(errors="replace").split()):
                    self._messages.append(text)

    def feed(self, first: bytes, read: Callable[[], bytes]) -> None:
        """Write `first` and then what `read` returns, until it is empty, from a thread of its own."""
        pipe = self._process.stdin
        assert pipe

        def write() -> None:
            with suppress(OSError, ValueError):  # the child has ended
                data = memoryview(first)
                while data:
                    data = data[pipe.write(data) or 0 :] or memoryview(read())
            with suppress(OSError):
                pipe.close()

        threading.Thread(target=write, daemon=True).start()

    def problem(self) -> str:
        """Return ffmpeg's last message, once its output has ended; empty if all was decoded."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            return "ffmpeg does not end"
        self._drain.join(PATIENCE)
        if self._messages:
            return PREFIX.sub("", self._messages[-1])[:SHOWN]
        return f"ffmpeg ended with code {code}" if code else ""

    def kill(self) -> None:
        """End the child process; its output ends."""
        if self._process.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """End the child process and close its pipes; a second call does nothing."""
        self.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self._drain.join(PATIENCE)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()


def limit_memory(process: int) -> None:
    """Limit the address space of a process that decodes a stranger's file, where the system can."""
    if hasattr(resource, "prlimit"):
        with suppress(OSError, ValueError):  # it has ended, or has a lower limit already
            resource.prlimit(process, resource.RLIMIT_AS, (MEMORY, MEMORY))


class FfmpegSound:
    """Reads like soundfile.SoundFile, as far as the runtime needs it."""

    frames = UNKNOWN_FRAMES

    def __init__(self, child: Ffmpeg, reason: str) -> None:
        """`reason`: why ffmpeg is needed, for the error."""
        self._child, self._rest = child, b""
        try:
            while (header := parse_wav(self._rest)) is None or len(self._rest) <= header.start:
                if not self._more():  # a file that cannot be decoded fails here
                    raise AudioError(f"{reason}; nor by ffmpeg ({child.problem() or 'no sound in it'})")
            assert header.pcm
            self._pcm, self.samplerate, self.channels = header.pcm, header.pcm.rate, header.pcm.channels
            self._rest = self._rest[header.start :]
            check_rate(self.samplerate)
        except BaseException:
            self.close()
            raise

    def _more(self) -> bool:
        new = os.read(self._child.descriptor, READ)
        self._rest += new
        return bool(new)

    def read(self, frames: int, **form: Any) -> NDArray[np.float32]:
        """Return up to `frames` frames, (n, channels) float32; fewer only at the end."""
        unit = self._pcm.size
        size = frames * unit
        while len(self._rest) < size and self._more():
            pass
        whole = min(size, len(self._rest) // unit * unit)
        data, self._rest = self._rest[:whole], self._rest[whole:]
        return self._pcm.decode(data)

    def problem(self) -> str:
        """Return ffmpeg's last message, once the sound has ended."""
        return self._child.problem()

    def close(self) -> None:
        """End the child process; a second call does nothing."""
        self._child.close()
