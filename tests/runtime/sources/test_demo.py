"""The demo's voice: the same everywhere, fit to be judged, and what the README promises of it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.audio.features import PRESETS, RATE
from runtime.audio.quality import QualityMonitor
from runtime.sources.demo import NOTE, VOWELS, DemoSource, envelope, voice
from runtime.support.shutdown import Stop

ROOT = Path(__file__).resolve().parents[3]


def test_it_is_the_same_every_time_and_as_long_as_a_window_and_more() -> None:
    sound = voice(RATE)
    assert np.array_equal(sound, voice(RATE)) and sound.dtype == np.float32
    assert all(preset.seconds + 1 < len(sound) / RATE < 9 for preset in PRESETS.values())
    assert 0.1 < np.abs(sound).max() < 0.9


@pytest.mark.parametrize("preset", PRESETS)
def test_it_is_fit_to_be_judged(preset: str) -> None:
    """No flag at any time; noise from /dev/urandom would clip."""
    monitor = QualityMonitor(PRESETS[preset])
    for piece in np.array_split(voice(RATE), 80):
        monitor.push(piece)
        assert monitor.report().flags == () and not monitor.silent


def test_it_has_the_pitch_of_a_voice_and_pauses() -> None:
    frames = PRESETS["f0"].frames(voice(RATE))
    loud = frames.max(axis=1) > np.median(frames.max(axis=1))
    hertz = frames[loud, 5:].argmax(axis=1) * RATE / 1728 + 5 * RATE / 1728
    assert np.percentile(hertz, 10) > 85 and np.std(hertz) > 5
    assert (frames.max(axis=1) < frames.max() - 8).mean() > 0.1  # 35 dB


def test_a_vowel_is_loudest_at_its_formants() -> None:
    hertz = np.arange(50.0, 3000.0, 10.0)
    for formants in VOWELS.values():
        loudness = envelope(hertz, np.tile(np.array(formants, float), (len(hertz), 1)))
        peaks = hertz[1:-1][(loudness[1:-1] > loudness[:-2]) & (loudness[1:-1] > loudness[2:])]
        assert all(np.abs(peaks - formant).min() < 60 for formant in formants[:2])


def test_a_note_declares_the_voice_synthetic() -> None:
    with Stop() as stop:
        first, *rest = DemoSource(RATE, stop)
    assert first.note == NOTE and not len(first.samples)
    assert np.array_equal(np.concatenate([block.samples for block in rest]), voice(RATE))


def test_the_readmes_first_command_gives_verdicts() -> None:
    """From the sentence's end on, what is installed before is this very environment."""
    first = re.search(r"^ {4}(.*)$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    assert first
    installing, _, command = first[1].rpartition(" && ")
    assert installing == "python3 -m venv .venv && .venv/bin/pip install -q ."
    interpreter, *words = command.split()
    assert interpreter == ".venv/bin/python"
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *verdicts, summary = done.stdout.splitlines()
    assert len(verdicts) >= 5 and sum("P(spoof)" in line for line in verdicts) >= 4
    assert re.match(r"demo: (spoof|unsure|bonafide), P\(spoof\) ", summary)
