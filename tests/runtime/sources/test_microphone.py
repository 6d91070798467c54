"""A real microphone, as far as software goes: PortAudio, ALSA, PulseAudio, and a null sink that plays a clip.

Needs, from Debian: pulseaudio pulseaudio-utils libportaudio2 libasound2-plugins. Works as root, without a sound card.
"""

import ctypes.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from runtime.audio.features import RATE
from runtime.audio.framer import Score
from runtime.card.model_card import read_card
from runtime.engines import open_engine
from runtime.scorer import StreamScorer
from tests.runtime.made_model import made_model
from tests.runtime.speech import speech

ROOT = Path(__file__).resolve().parents[3]
PLUGIN = "libasound_module_pcm_pulse.so"
SINK, OTHER = "shrike", "heron"  # as PulseAudio calls them, and ALSA their monitors


def missing() -> str:
    """Name the programs that are missing for these tests."""
    absent = [name for name in ("pulseaudio", "pactl", "paplay") if not shutil.which(name)]
    if not ctypes.util.find_library("portaudio"):
        absent.append("libportaudio2")
    if not any(Path("/usr/lib").glob(f"*/alsa-lib/{PLUGIN}")):
        absent.append("libasound2-plugins")
    return ", ".join(absent)


pytestmark = pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}: apt-get install pulseaudio "
                                "pulseaudio-utils libportaudio2 libasound2-plugins")  # fmt: skip


class Daemon:
    """PulseAudio for this user alone, in a folder of its own; the monitors of two null sinks are the microphones."""

    def __init__(self, home: Path) -> None:
        (home / "run").mkdir(mode=0o700)
        devices = "".join(f"pcm.{sink} {{ type pulse device {sink}.monitor }}\n" for sink in (SINK, OTHER))
        (home / ".asoundrc").write_text(f"pcm.!default {{ type pulse }}\nctl.!default {{ type pulse }}\n{devices}")
        recorded = {key: value for key, value in os.environ.items() if not key.startswith("PULSE_")}
        self.environment = {**recorded, "HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run")}
        self.log = home / "pulse.log"
        self.start()

    def start(self) -> None:
        modules = ["module-native-protocol-unix", *(" ".join(null_sink(sink)) for sink in (SINK, OTHER))]
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--resample-method=speex-float-10"]
        loads = [word for module in modules for word in ("-L", module)]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                ["pulseaudio", *options, *loads], env=self.environment, stdout=log, stderr=log
            )
        for _ in range(100):
            if not self.tool("pactl", "set-default-source", f"{SINK}.monitor").returncode:
                return
            time.sleep(0.1)
        raise RuntimeError(f"PulseAudio does not start: {self.log.read_text()[-1000:]}")

    def tool(self, *words: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(words, env=self.environment, capture_output=True, timeout=60)

    def play(self, path: Path) -> None:
        self.tool("paplay", f"--device={SINK}", str(path))

    def player(self, path: Path, sink: str = SINK) -> "subprocess.Popen[bytes]":
        words = ["paplay", f"--device={sink}", str(path)]
        return subprocess.Popen(words, env=self.environment, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def null_sink(name: str) -> tuple[str, ...]:
    return "module-null-sink", f"sink_name={name}", f"rate={RATE}", "channels=1"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    (tmp_path / "home").mkdir()
    daemon = Daemon(tmp_path / "home")
    yield daemon
    daemon.stop()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return made_clip(tmp_path / "clip.wav", beat=0.7)


def made_clip(path: Path, beat: float) -> Path:
    """Speech, other for each beat; silence first, while the devices wake up."""
    sound = speech(7.0, seed=round(10 * beat))
    sound[: int(0.5 * RATE)] = 0
    soundfile.write(path, sound, RATE)
    return path


class Listening:
    """python -m runtime.stream on microphones; what it writes is read at once, for a full pipe would hold it back."""

    def __init__(self, daemon: Daemon, model: Path, *more: Any, devices: tuple[str, ...] = ("pulse",)) -> None:
        words = [sys.executable, "-m", "runtime.stream", "--mic", "--device", *devices, "--json", "--model", model]
        self._process = subprocess.Popen(
            [*map(str, words), *map(str, more)], cwd=ROOT, env=daemon.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        self.found: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.wait("start", len(devices))  # the devices are open then

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.found.append(json.loads(line))

    def wait(self, kind: str, count: int = 1) -> None:
        """Until so many lines of a kind have come."""
        until = time.monotonic() + 40
        while [line["type"] for line in self.found].count(kind) < count:
            assert time.monotonic() < until and self._process.poll() is None, (kind, self.found[-3:])
            time.sleep(0.02)

    def end(self) -> list[dict[str, Any]]:
        self._process.send_signal(signal.SIGTERM)  # SIGINT is ignored where the tests run in the background
        assert self._process.stderr
        errors = self._process.stderr.read()
        assert self._process.wait(20) == 0 and "Traceback" not in errors, errors
        self._reader.join()
        return self.found


def scores_of(model: Path, sound: np.ndarray, step: int | None = None) -> list[Score]:
    with open_engine(model) as engine:  # type: ignore[attr-defined]
        return StreamScorer(engine, read_card(model).frontend, step).push(sound)


def test_the_microphone_gives_the_scores_of_the_file(daemon: Daemon, tmp_path: Path, clip: Path) -> None:
    model, recorded = made_model(tmp_path, "f0"), tmp_path / "recorded.flac"
    listening = Listening(daemon, model, "--record", recorded)
    daemon.play(clip)
    time.sleep(1.0)  # the clip's end is still on its way
    found = listening.end()
    frontend = read_card(model).frontend

    def frame(seconds: float) -> int:
        return round((seconds * RATE - frontend.window) / frontend.hop)

    verdicts = {frame(line["t"]): line["score"] for line in found if line["type"] == "verdict" and line["score"]}
    heard, played = soundfile.read(recorded, dtype="float32")[0], soundfile.read(clip, dtype="float32")[0]

    # Where in the recording the clip begins; then the file gets the same shift.
    size = 2 ** int(np.ceil(np.log2(len(heard) + len(played))))
    correlation = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size)))
    start = int(correlation.argmax())
    # Negative: the clip's first 20 ms are missing, and that is PulseAudio's doing. Its null sink sleeps in blocks of up
    # to 2 s; a player wakes it, and what it had rendered until then is replaced in the sink but not in its monitor. As
    # much is missing as the listener asks for as latency: 20 ms with our blocks of 20, 40 with 40, 100 with 100, and
    # parec, without PortAudio, loses 20 with --latency-msec=20 and 668 with its own default. Nothing is missing where
    # the monitor was running before. So the comparison begins where the recording does; no sound card has a monitor.
    start -= size if start > size // 2 else 0
    shifted = np.concatenate([np.zeros(max(start, 0), np.float32), played[max(-start, 0) :]])
    first, last = (start / RATE) + frontend.seconds, (start + len(played)) / RATE - 0.05
    pairs = [
        (verdicts[frame(score.time)], score.value)
        for score in scores_of(model, shifted)
        if first < score.time < last and frame(score.time) in verdicts
    ]
    assert len(pairs) >= 8, (start, len(heard), sorted(verdicts))
    mic, file = np.array(pairs).T
    assert np.abs(mic - file).max() < 0.01 * np.ptp(file)  # the resamplers' error, there and back
    summary = found[-1]
    assert summary["type"] == "summary" and summary["lost"] == 0
    again = {frame(score.time): score.value for score in scores_of(model, heard)}
    assert all(abs(again[when] - value) < 1e-3 for when, value in verdicts.items() if when in again)


def test_an_unplugged_microphone_is_opened_again(daemon: Daemon, tmp_path: Path, clip: Path) -> None:
    listening = Listening(daemon, made_model(tmp_path, "f0"))
    with daemon.player(clip) as player:
        listening.wait("verdict")
        player.kill()
    daemon.stop()  # as if the plug were pulled: PortAudio's stream dies, or falls silent
    time.sleep(1.0)
    daemon.start()
    time.sleep(6.0)
    daemon.play(clip)
    found = listening.end()
    notes = " ".join(line["text"] for line in found if line["type"] == "note")
    assert "is gone" in notes and "is back" in notes
    gaps = [line for line in found if line["type"] == "gap"]
    assert len(gaps) == 1 and gaps[0]["restarted"] and 1.0 < gaps[0]["lost"] < 20
    after = [line for line in found[found.index(gaps[0]) :] if line["type"] == "verdict"]
    assert (
        after and after[0]["state"] in ("no-voice", "too-short", "warming-up") and after[0]["t"] >= gaps[0]["t"] + 0.9
    )


def of_source(found: list[dict[str, Any]], name: str, kind: str) -> list[dict[str, Any]]:
    return [line for line in found if line["type"] == kind and line["source"] == name]


def test_two_microphones_each_give_the_scores_of_their_own_sound(daemon: Daemon, tmp_path: Path) -> None:
    model, sinks = made_model(tmp_path, "f0"), (SINK, OTHER)
    clips = {sink: made_clip(tmp_path / f"{sink}.wav", beat) for sink, beat in zip(sinks, (0.7, 1.3), strict=True)}
    listening = Listening(daemon, model, devices=sinks)
    players = [daemon.player(clips[sink], sink) for sink in sinks]
    assert [player.wait(60) for player in players] == [0, 0]
    time.sleep(1.0)  # the clips' ends are still on their way
    found = listening.end()
    hop = read_card(model).frontend.hop

    def difference(heard: str, played: str) -> float:
        """The largest between scores, as a share of their range, where the clip is shifted so that it is least."""
        sound = soundfile.read(clips[played], dtype="float32")[0]
        judged = [line for line in of_source(found, heard, "verdict") if line["score"] is not None]
        verdicts = [(round(line["t"] * RATE / hop), line["score"]) for line in judged]
        errors = []
        for less in range(0, hop, hop // 10):  # samples; frames begin anywhere in the clip
            values = np.array([score.value for score in scores_of(model, sound[less:], step=1) if not score.warming])
            for shift in range(verdicts[0][0], verdicts[-1][0]):  # frames
                pairs = [(score, values[at - shift]) for at, score in verdicts if 0 <= at - shift < len(values)]
                if len(pairs) >= 10:
                    errors.append(max(abs(mic - file) for mic, file in pairs) / np.ptp(values))
        return min(errors)

    for sink, other in (sinks, sinks[::-1]):
        own, others = difference(sink, sink), difference(sink, other)
        assert own < 0.03 and others > 10 * own, (sink, own, others)
        [summary] = of_source(found, sink, "summary")
        assert summary["lost"] == 0 and summary["gaps"] == 0


def test_of_two_microphones_one_falls_silent_and_the_other_hears_on(daemon: Daemon, tmp_path: Path, clip: Path) -> None:
    listening = Listening(daemon, made_model(tmp_path, "f0"), devices=(SINK, OTHER))
    with daemon.player(clip, SINK), daemon.player(clip, OTHER):
        listening.wait("verdict", 10)
        daemon.tool("pactl", "suspend-sink", SINK, "1")  # its monitor delivers nothing any more
        listening.wait("note", 1)
        time.sleep(3.0)
        daemon.tool("pactl", "suspend-sink", SINK, "0")
        listening.wait("note", 2)
    found = listening.end()
    gone, back = of_source(found, SINK, "note")
    assert "is gone" in gone["text"] and "is back" in back["text"]
    [gap] = of_source(found, SINK, "gap")
    assert gap["restarted"] and 4.0 < gap["lost"] < 30.0
    assert not of_source(found, OTHER, "note") and not of_source(found, OTHER, "gap")
    meanwhile = of_source(found[found.index(gone) : found.index(back)], OTHER, "verdict")
    assert len(meanwhile) >= 25  # of the 30 or more that fall into three seconds


def test_devices_are_listed_and_an_unknown_one_is_one_line(daemon: Daemon, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "runtime.stream"]
    listed = subprocess.run(
        [*words, "--list-devices"], cwd=ROOT, env=daemon.environment, capture_output=True, text=True
    )
    assert listed.returncode == 0 and "pulse" in listed.stdout and listed.stderr == ""
    model = made_model(tmp_path, "f0")
    unknown = subprocess.run(
        [*words, "--mic", "--device", "no such thing", "--model", str(model)],
        cwd=ROOT, env=daemon.environment, capture_output=True, text=True,
    )  # fmt: skip
    assert unknown.returncode == 2 and unknown.stderr.count("\n") == 2 and "--list-devices" in unknown.stderr
