"""Faults of a microphone, played by a simulated device: overflows, NaN, a suspended machine, unplugging."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from runtime.sources import Block, microphone
from runtime.sources.microphone import Microphone
from runtime.support.errors import ShrikeError
from runtime.support.shutdown import Stop

RATE, SIZE = 16_000, 320
FINE = SimpleNamespace(input_overflow=False)


class PortAudio:
    """As much of sounddevice as a microphone uses; `deliver` is its callback."""

    class PortAudioError(Exception):
        pass

    def __init__(self, name: str = "USB Audio (hw:1,0)") -> None:
        self.there, self.name, self.started, self.refused = True, name, 0, {(44_100, 2)}
        self.deliver: Callable[..., None] = lambda *_: None
        self.active = True

    def query_devices(self, device: Any = None, kind: str | None = None) -> dict[str, Any]:
        if not self.there or (isinstance(device, str) and device not in self.name):
            raise ValueError(f"No input device matching {device!r}")
        return {"name": self.name, "index": 3, "max_input_channels": 2, "default_samplerate": 44_100.0}

    def InputStream(self, **how: Any) -> Any:  # noqa: N802 - its name in sounddevice
        if (how["samplerate"], how["channels"]) in self.refused or how["samplerate"] != RATE:
            raise self.PortAudioError("Invalid sample rate [PaErrorCode -9997]")
        self.deliver, self.active, self.started = how["callback"], True, self.started + 1
        self.channels = how["channels"]
        outer = self

        class Stream:
            @property
            def active(self) -> bool:
                return outer.active

            def start(self) -> None: ...
            def abort(self, ignore_errors: bool) -> None: ...
            def close(self, ignore_errors: bool) -> None: ...

        return Stream()

    def _terminate(self) -> None: ...
    def _initialize(self) -> None: ...

    def give(self, value: float = 0.1, status: Any = FINE) -> None:
        self.deliver(np.full((SIZE, self.channels), value, np.float32), SIZE, None, status)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> PortAudio:
    device = PortAudio()
    monkeypatch.setattr(microphone, "load_sounddevice", lambda: device)
    monkeypatch.setattr(microphone, "PATIENT", 0.05)
    monkeypatch.setattr(microphone, "STALLED", 0.3)
    monkeypatch.setattr(microphone, "ALIVE", 0.1)  # shorter than STALLED, as it really is
    return device


@pytest.fixture
def heard(device: PortAudio) -> Iterator[Iterator[Block]]:
    """The blocks of an open microphone; a stop comes after 10 s in any case."""
    with Stop() as stop:
        timer = threading.Timer(10, stop.request)
        timer.start()
        source = Microphone("USB", 16_000, stop)
        yield (block for block in source if len(block.samples) or block.note)
        source.close()
        timer.cancel()


def test_a_rate_and_channels_that_the_device_takes_are_found(device: PortAudio, heard: Iterator[Block]) -> None:
    device.give()
    device.give()
    assert device.channels == 2 and device.started == 1
    assert 0 < len(next(heard).samples) <= SIZE


def test_what_the_driver_dropped_is_lost(device: PortAudio, heard: Iterator[Block]) -> None:
    device.give()
    device.give()
    assert next(heard).lost == 0
    next(heard)
    device.give(status=SimpleNamespace(input_overflow=True))
    device.give()
    found = [next(heard)]
    assert found[0].lost == pytest.approx(SIZE / RATE)


def test_when_we_are_too_slow_the_newest_sound_wins(device: PortAudio, heard: Iterator[Block]) -> None:
    for number in range(300):  # 6 s, of which 2 s may wait
        device.give(number / 1000)
    first = next(heard)
    assert 4.0 <= first.lost <= 4.25 and first.samples[-1] > 0.19


def test_nan_is_counted_and_becomes_silence(device: PortAudio, heard: Iterator[Block]) -> None:
    device.give(float("nan"))
    device.give(float("inf"))
    block = next(heard)
    assert block.invalid == 2 * SIZE and np.isfinite(block.samples).all()


def test_a_suspended_machine_leaves_a_gap(
    device: PortAudio, heard: Iterator[Block], monkeypatch: pytest.MonkeyPatch
) -> None:
    device.give()
    next(heard)
    monkeypatch.setattr(microphone, "clock", lambda real=microphone.clock: real() + 3600)
    device.give()
    assert next(heard).lost == pytest.approx(3600, abs=1)


def test_an_unplugged_device_is_found_again_by_its_name(device: PortAudio, heard: Iterator[Block]) -> None:
    device.give()
    next(heard)
    device.there = device.active = False
    assert "gone" in next(heard).note

    def plug_in() -> None:
        time.sleep(0.3)
        device.name, device.there = "USB Audio (hw:2,0)", True
        while device.started < 2:
            time.sleep(0.01)
        time.sleep(0.05)
        device.give()
        device.give()

    thread = threading.Thread(target=plug_in)
    thread.start()
    back = next(heard)
    thread.join()
    assert "back" in back.note and back.lost > 0.3 and device.started == 2


def test_a_device_that_opens_but_stays_mute_is_reported_once(device: PortAudio, heard: Iterator[Block]) -> None:
    device.give()
    next(heard)
    gone = next(heard)
    done = threading.Event()

    def speak_again() -> None:
        done.wait(2.5)
        while not done.wait(0.02):
            device.give()

    thread = threading.Thread(target=speak_again)
    thread.start()
    back = next(heard)
    done.set()
    thread.join()
    assert "gone" in gone.note and "back" in back.note
    assert len(back.samples) and back.lost > 2.0  # reported with its first sound, not when it opened
    assert device.started >= 2


def test_a_microphone_that_is_not_there_at_the_start_is_an_error(device: PortAudio) -> None:
    device.there = False
    with Stop() as stop, pytest.raises(ShrikeError):
        Microphone("USB", 16_000, stop)


def test_a_microphone_that_takes_nothing_is_an_error_with_the_first_reason(device: PortAudio) -> None:
    device.refused = {(RATE, 1), (RATE, 2)}
    with Stop() as stop, pytest.raises(ShrikeError):
        Microphone(None, 16_000, stop)


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has it")
def test_chatter_of_the_sound_system_is_hidden_and_what_others_write_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    with microphone.silenced():
        os.write(2, b"ALSA lib pcm.c:2664:(snd_pcm_open_noupdate) Unknown PCM cards.pcm.rear\n")
        os.write(2, b"Expression 'ret' failed in 'src/hostapi/alsa/pa_linux_alsa.c', line: 1736\n")
        os.write(2, b"Cannot connect to server socket err = No such file or directory\njack server is not running\n")
        print("error: the webhook is down", file=sys.stderr)
    print("later", file=sys.stderr)
    assert capfd.readouterr().err == "error: the webhook is down\nlater\n"


def test_an_error_while_the_sound_system_is_silenced_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="bug"), microphone.silenced():
        raise ValueError("bug")
    os.write(2, b"seen\n")
    assert capfd.readouterr().err == "seen\n"
