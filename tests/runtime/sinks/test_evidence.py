"""--keep-evidence: the right ten seconds, whole files, a limit, a disk that is full."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from runtime.audio.features import RATE
from runtime.sinks.evidence import EvidenceSink, EvidenceStore, Passage, sanitised
from runtime.support.atomic import HOST
from runtime.support.errors import ShrikeError
from tests.runtime.sinks.change_feed import STEP, change, feed, info, verdict


def ramp(start: int, count: int) -> np.ndarray:
    """Samples that tell their position: 16 bits hold it exactly, modulo 30,000."""
    return ((np.arange(start, start + count) % 30_000) / 32_768).astype(np.float32)


def positions(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return samples


def play(sink: EvidenceSink, seconds: float, spoof_from: float, block: int) -> None:
    """A stream whose state turns to spoof; verdicts follow the block that holds them."""
    given, time = 0, 0.0
    for start in range(0, round(seconds * RATE), block):
        count = min(block, round(seconds * RATE) - start)
        sink.sound(ramp(start, count))
        given += count
        while (time + STEP) * RATE <= given + 1e-6:
            time += STEP
            sink.verdict(verdict(time, "spoof" if time >= spoof_from else "bonafide"), None)


@pytest.mark.parametrize("block", [160, 4_000, 40 * RATE])
def test_the_file_holds_the_ten_seconds_before_the_change(tmp_path: Path, block: int) -> None:
    store = EvidenceStore(tmp_path, 10, print)
    sink = EvidenceSink(store, debounce=1.0)
    sink.begin(info("Caller ../№ 1.wav"))
    play(sink, 40.0, 25.0, block)
    store.close()
    (path,) = tmp_path.iterdir()
    found = positions(path)
    with soundfile.SoundFile(path) as sound:
        assert sound.format == "FLAC" and sound.subtype == "PCM_16" and sound.channels == 1
        entries = json.loads(sound.comment)
    assert entries["state"] == "spoof" and entries["t"] == pytest.approx(26.0, abs=0.11)
    end = round(entries["t"] * RATE)
    assert np.array_equal(found, np.arange(end - 10 * RATE, end) % 30_000)
    assert not store.failed


def test_time_lost_in_a_gap_does_not_shift_the_passage(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, 10, print)
    sink = EvidenceSink(store, debounce=0.0)
    sink.begin(info())
    sink.sound(ramp(0, 5 * RATE))
    sink.gap(105.0, 100.0, True)
    sink.sound(ramp(5 * RATE, 2 * RATE))
    sink.verdict(verdict(106.0, "spoof"), None)
    store.close()
    (path,) = tmp_path.iterdir()
    assert np.array_equal(positions(path), np.arange(0, 6 * RATE) % 30_000)


def test_only_changes_to_spoof_are_kept(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, 10, print)
    sink = EvidenceSink(store)
    sink.begin(info())
    sink.sound(ramp(0, RATE))
    feed(sink, ("bonafide", 5), ("unsure", 5), ("no-voice", 5))
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_the_oldest_of_ours_go_and_nothing_else(tmp_path: Path) -> None:
    foreign = [tmp_path / "holiday.flac", tmp_path / "shrike-notes.txt"]
    for path in foreign:
        path.write_bytes(b"x" * 2_000_000)
    (tmp_path / "shrike-20200101T000000Z-0-link.flac").symlink_to(foreign[0])
    noise = np.random.default_rng(0).uniform(-1, 1, 10 * RATE).astype(np.float32)  # hardly compresses
    store = EvidenceStore(tmp_path, 1.0, print)
    for number in range(8):
        store.keep(Passage(change(number=number, source=f"source-{number}"), noise, RATE))
    store.close()
    kept = [path for path in tmp_path.glob("shrike-*.flac") if not path.is_symlink()]
    assert sum(path.stat().st_size for path in kept) <= 1_000_000 and kept
    assert any("source-7" in path.name for path in kept) and not any("source-0" in path.name for path in kept)
    assert all(path.exists() for path in foreign) and len(list(tmp_path.glob("*link.flac"))) == 1


def test_what_a_killed_run_left_goes_and_what_a_running_one_writes_stays(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    left = tmp_path / f".shrike-20200101T000000Z-0-call.shrike-{HOST}-{ended.pid}.flac"
    busy = tmp_path / f".shrike-20200101T000000Z-0-call.shrike-{HOST}-{os.getppid()}.flac"
    left.touch()
    busy.touch()
    EvidenceStore(tmp_path, 10, print).close()
    assert not left.exists() and busy.exists()


def test_a_disk_that_takes_no_more_ends_keeping_and_nothing_else(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk."""
    program = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from runtime.sinks.evidence import EvidenceStore, Passage
from tests.runtime.sinks.change_feed import change
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
messages = []
store = EvidenceStore(Path(sys.argv[1]), 10, messages.append)
noise = np.random.default_rng(0).uniform(-1, 1, 160_000).astype(np.float32)
store.keep(Passage(change(), noise, 16_000))
while len(list(Path(sys.argv[1]).glob("shrike-*"))) < 1:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for number in range(5):
    store.keep(Passage(change(number=number), noise, 16_000))
store.close()
assert store.failed and len(messages) == 1, messages
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    (kept,) = tmp_path.iterdir()
    assert len(positions(kept)) == 10 * RATE


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ShrikeError):
        EvidenceStore(tmp_path / "file" / "inside", 10, print)
    with pytest.raises(ShrikeError):
        EvidenceStore(tmp_path, 0.0, print)


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "a\0b", "", "...", "x" * 500, "häß/лич но\n", "\udce9.wav", "/"]
)
def test_names_are_safe(source: str) -> None:
    name = sanitised(source)
    assert name.isascii() and name.isprintable() and "/" not in name and 0 < len(name) <= 60 and name[0] != "."
