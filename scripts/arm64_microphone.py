"""Run `stream --mic` for ARM in qemu's user emulation; PulseAudio plays the demo's clips into the microphone.

    python -m scripts.arm64_microphone

PortAudio, ALSA and ALSA's PulseAudio plug-in are aarch64's, the daemon is this machine's. Needs what scripts.arm64
needs, pulseaudio, pulseaudio-utils, and a free core: the emulator must keep pace with the sound.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from runtime.audio.features import RATE
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from scripts.arm64 import CLIPS, ROOT, Machine, Options, clean, results, scores

TOLERANCE = 0.3  # of log-likelihood ratios: the recording, which this machine judges, is rounded to 16 bits
SECONDS = 120.0  # until the emulated microphone is open
SINK = "shrike"
ALSA = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


@contextmanager
def pulse(home: Path) -> Iterator[dict[str, str]]:
    """Start PulseAudio with one null sink; yield the environment in which programs find it."""
    (home / "run").mkdir(mode=0o700)
    (home / ".asoundrc").write_text(ALSA, "utf-8")
    environment = clean() | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
    modules = ["module-native-protocol-unix", f"module-null-sink sink_name={SINK} rate={RATE} channels=1"]
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", *(f"--load={each}" for each in modules)]
    daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        source = ["pactl", "set-default-source", f"{SINK}.monitor"]
        until = time.monotonic() + 10
        while subprocess.run(source, env=environment, capture_output=True).returncode:
            if time.monotonic() > until:
                raise ShrikeError("PulseAudio does not start: run pulseaudio -n --daemonize=no to see why")
            time.sleep(0.1)
        yield environment
    finally:
        daemon.kill()
        daemon.wait()


def listen(machine: Machine, home: Path) -> tuple[bytes, Path]:
    """Play the clips to an emulated stream; return its JSON lines, and what it recorded."""
    output, recording = home / "verdicts.jsonl", home / "recording.flac"
    words = ["-m", "runtime.stream", "--mic", "--device", "pulse", "--json", "--record", str(recording)]
    with pulse(home) as environment, output.open("wb") as lines:
        stream = subprocess.Popen(
            machine.command(*words), cwd=ROOT, env=environment, stdout=lines, stderr=subprocess.DEVNULL
        )
        try:
            until = time.monotonic() + SECONDS
            while b'"start"' not in output.read_bytes():
                if time.monotonic() > until or stream.poll() is not None:
                    raise ShrikeError("the emulated microphone does not open: see --list-devices in the emulator")
                time.sleep(0.2)
            time.sleep(2.0)
            for clip in CLIPS:
                subprocess.run(["paplay", f"--device={SINK}", clip], env=environment, check=True)
            time.sleep(2.0)  # the last clip's end is still on its way
            stream.send_signal(signal.SIGTERM)
            stream.wait(60)
        finally:
            stream.kill()
    return output.read_bytes(), recording


def main() -> int:
    options = parse(Options, "scripts.arm64_microphone", __doc__)
    machine = Machine(options, packages_of_root=("libasound2-plugins",))
    print(machine, flush=True)
    with TemporaryDirectory() as folder:
        output, recording = listen(machine, Path(folder))
        if b'"gap"' in output:
            raise ShrikeError("sound was lost: the emulator did not keep pace; it needs a free core")
        there, others = scores(output)
        here, states = results([sys.executable, "-m", "runtime.stream", "--stdin", "--json"], str(recording))
    if not here or len(here) != len(there):
        raise ShrikeError(f"{len(there)} scores on ARM, {len(here)} here")
    most = float(np.abs(np.subtract(here, there)).max())
    other = sum(one != two for one, two in zip(states, others, strict=True))
    print(f"{len(there)} scores, largest difference of LLR {most:.3f}, {other} other states")
    print(f"states: {', '.join(dict.fromkeys(others))}")
    return int(most > TOLERANCE)


if __name__ == "__main__":
    run(main)
