"""Voice activity: speech is found, what is not speech is not, and the split into chunks never matters."""

from pathlib import Path

import numpy as np
import pytest

from runtime.audio.decode import load
from runtime.audio.voice_activity import CHUNK, HISTORY, RATE, VoiceActivity, decisions
from tests.sounds import without_voice

CLAIM = 3.0  # s of voice that a claim needs


def speech(corpus_root: Path, partition: str, key: str, count: int) -> list[np.ndarray]:
    """The first clips of a class."""
    lines = (corpus_root / "protocols" / f"{partition}.txt").read_text().splitlines()
    names = [line.split()[1] for line in lines if line.endswith(key)][:count]
    paths = [next(corpus_root.glob(f"*/{name}.*")) for name in names]
    return [load(path).samples for path in paths]


@pytest.mark.parametrize(("name", "sound"), list(without_voice()), ids=[name for name, _ in without_voice()])
def test_sounds_without_a_voice_never_support_a_claim(name: str, sound: np.ndarray) -> None:
    assert decisions(sound).sum() * CHUNK / RATE < CLAIM / 2


def test_speech_is_found(corpus_root: Path) -> None:
    for key in ("bonafide", "spoof"):
        shares = [decisions(clip).mean() for clip in speech(corpus_root, "dev", key, 10)]
        assert np.median(shares) > 0.5


@pytest.mark.parametrize("decibels", [-40, -20, 10])
def test_gain_changes_hardly_a_decision(corpus_root: Path, decibels: int) -> None:
    clips = speech(corpus_root, "dev", "bonafide", 8) + speech(corpus_root, "dev", "spoof", 8)
    before = np.concatenate([decisions(clip) for clip in clips])
    louder = [np.rint(32768 * clip * 10 ** (decibels / 20)).clip(-32768, 32767) / 32768 for clip in clips]
    after = np.concatenate([decisions(clip.astype(np.float32)) for clip in louder])
    assert (before != after).mean() < 0.05


def test_any_split_gives_the_same_decisions(corpus_root: Path) -> None:
    clip = speech(corpus_root, "dev", "bonafide", 1)[0][: 4 * RATE]
    rng, whole = np.random.default_rng(0), VoiceActivity()
    whole.push(clip)
    for largest in (1, 100, 5000):
        pieces, rest = VoiceActivity(), clip[: RATE if largest == 1 else None]
        while len(rest):
            size = int(rng.integers(0, largest + 1))
            pieces.push(rest[:size])
            rest = rest[size:]
        expected = VoiceActivity()
        expected.push(clip[: RATE if largest == 1 else None])
        assert list(pieces._chunks) == list(expected._chunks) and pieces.total == expected.total
    assert whole.voiced(0, len(clip)) == pytest.approx(whole.total)


def test_a_gap_holds_no_voice_and_shifts_what_follows(corpus_root: Path) -> None:
    clip = speech(corpus_root, "dev", "bonafide", 1)[0][: 2 * RATE]
    detector = VoiceActivity()
    detector.push(clip)
    before = detector.total
    detector.skip(10 * RATE)
    assert detector.voiced(2 * RATE, 12 * RATE) == 0
    detector.push(clip)  # from a clean state: the same decisions again
    assert detector.total == pytest.approx(2 * before)
    assert detector.voiced(12 * RATE, 14 * RATE) == pytest.approx(before, abs=2 * CHUNK / RATE)


def test_the_history_is_bounded() -> None:
    detector = VoiceActivity()
    detector.push(np.zeros((HISTORY + 10) * CHUNK, np.float32))
    assert len(detector._chunks) == HISTORY and detector.total == 0
