"""The demo: one real and one fake passage that the default model gets right, and what the README promises of it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from runtime.api import load
from runtime.audio.features import PRESETS, RATE
from runtime.sources.demo import FOLDER, NOTES, PAUSE, DemoSource, passages
from runtime.support.shutdown import Stop

ROOT = Path(__file__).resolve().parents[3]


def test_the_passages_are_small_and_longer_than_a_window() -> None:
    assert passages(RATE).keys() == NOTES.keys()
    for sound in passages(RATE).values():
        assert len(sound) / RATE > max(preset.seconds for preset in PRESETS.values())
    assert sum(path.stat().st_size for path in FOLDER.glob("*.flac")) < 300_000


def test_the_default_model_is_right() -> None:
    with load() as detector:
        found = {name: detector.score(sound) for name, sound in passages(RATE).items()}
    assert {name: (one.state, one.flags) for name, one in found.items()} == {
        "real": ("bonafide", {}),
        "fake": ("spoof", {}),
    }


def test_the_source_is_both_with_a_pause_and_a_note_each() -> None:
    with Stop() as stop:
        blocks = list(DemoSource(RATE, stop))
    assert [block.note for block in blocks if block.note] == list(NOTES.values())
    real, fake = passages(RATE).values()
    whole = np.concatenate([real, np.zeros(round(PAUSE * RATE)), fake])
    assert np.array_equal(np.concatenate([block.samples for block in blocks]), whole)


def test_a_stop_in_the_first_passage_ends_the_demo() -> None:
    notes = []
    with Stop() as stop:
        for block in DemoSource(RATE, stop):
            notes.append(block.note)
            stop.request()
    assert [note for note in notes if note] == [next(iter(NOTES.values()))]


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
    states = [(float(line.split()[0]), line.split()[2]) for line in verdicts]
    seconds = len(passages(RATE)["real"]) / RATE
    assert {state for time, state in states if time < seconds} >= {"bonafide"}
    assert "spoof" not in {state for time, state in states if time < seconds} and states[-1][1] == "spoof"
    assert summary.startswith("demo: spoof") and re.search(r"; spoof [\d.]+-[\d.]+ s", summary)
