"""Print how far a model's scores and states move when only the signal's form changes: rate, resampler, gain, codec.

    python -m scripts.robustness accurate edge --corpus ../shared/corpus

Each clip is scored at 16 kHz first. Then it is converted to another rate by soxr, ffmpeg or sox and fed at that rate,
so that the stream's own resampler takes it back; or it gets an offset or a gain and is clipped at full scale. The first
table compares log-likelihood ratios of the first window of each clip, of windowed models.

The others are about `shrike scan` and files of 16 bits. The one of `--tables codec` sends the clips through codecs of
calls and messages. Of those of `--tables gain`, the first shows how far moderate gains move the
LLR and the seconds of voice of other clips: runtime.summary takes its margins of `borderline` from it. The other counts
clips whose state changes with a gain. `unexplained` are those that have none of `quiet`, `clipping` and `borderline`,
neither before nor after it. docs/experiments.md quotes them all.
"""

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import soxr
import tyro

from runtime.api import Stream
from runtime.audio.decode import load
from runtime.audio.features import RATE, Samples
from runtime.audio.resampler import Resampler
from runtime.card.model_card import ModelCard, read_card
from runtime.engines import Engine, as_streaming, open_engine
from runtime.engines.model_loader import LoadedModel, find_model, load_model
from runtime.scan.workers import covering
from runtime.scorer import StreamScorer
from runtime.summary import Summary
from runtime.support.command import parse, run
from runtime.support.errors import ShrikeError
from train.augment.codecs import through_ffmpeg
from train.evaluate.metrics import eer

RATES = (48_000, 44_100, 24_000)  # Hz
OFFSET = 0.05  # of full scale
GAINS = (-40, -30, -20, -10, 10, 20)  # dB
MODERATE = (-20, -10, 10)  # dB; the others leave hardly a clip without a flag
SET = {"quiet", "clipping"}  # flags that a gain may set
SHARES = (0.5, 0.9, 0.95, 0.99, 1.0)  # quantiles of the changes
CODECS = {  # ffmpeg's encoder, bits per second and container
    "Opus, 16 kb/s": ("libopus", 16_000, "ogg"),
    "Opus, 32 kb/s": ("libopus", 32_000, "ogg"),
    "MP3, 32 kb/s": ("libmp3lame", 32_000, "mp3"),
    "G.722, 64 kb/s": ("g722", 64_000, "g722"),
}
PATIENCE = 60  # s for one call of ffmpeg or sox

Change = Callable[[Samples], tuple[Samples, int]]  # samples at 16 kHz -> what is fed, and at which rate


@dataclass(frozen=True)
class Options:
    """Compare scores of clips with those of the same clips in another form."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Embedded models, or paths to model.onnx; streaming models are not in the table of rates and resamplers."""
    corpus: Path
    """Folder of the corpus, as for python -m train."""
    clips: int = 200
    """How many trials of the development protocol, evenly spread over it; the second table takes as many others."""
    first: int = 0
    """Number of the first of them in the protocol."""
    tables: Literal["all", "gain", "codec"] = "all"
    """gain: changes of LLRs and states by gains alone. codec: by codecs alone."""


def main() -> None:
    options = parse(Options, "scripts.robustness", __doc__)
    from train.data.corpus import open_corpus

    trials = open_corpus(options.corpus, "dev").trials
    every = max(2, len(trials) // max(1, options.clips))
    starts = (options.first, options.first + every // 2)
    chosen, rest = (trials[k::every][: options.clips] for k in starts)
    clips, others = ([load(one.path or "").samples for one in part] for part in (chosen, rest))
    if options.tables == "all":
        show_forms(options.models, clips)
    models = {name: load_model(find_model(name), "auto") for name in options.models}
    if options.tables != "gain":
        print("\n| codec | model | mean LLR | change | mean size of a change | EER, % | real, fake called spoof, % |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
        for name, model in models.items():
            show_codecs(name, model, clips, np.array([bool(one.bonafide) for one in chosen]))
    if options.tables != "codec":
        show_gains(models, clips, others)
    for model in models.values():
        model.engine.close()


def show_gains(models: dict[str, LoadedModel], clips: list[Samples], others: list[Samples]) -> None:
    """Two tables: how far moderate gains move other clips, and how many states of the clips change."""
    print(
        f"\n| {len(others)} other clips | size of a change | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |"
    )
    print("| --- | --- |" + " ---: |" * len(SHARES))
    for name, model in models.items():
        show_sensitivity(name, model, others)
    print("\n| gain | model | states that change | not `quiet`, not `clipping` | unexplained | unexplained, from to |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for name, model in models.items():
        show_states(name, model, clips)


def show_forms(models: tuple[str, ...], clips: list[Samples]) -> None:
    """Table of the windowed models."""
    print(
        f"| {len(clips)} clips of dev | model | mean LLR | change | mean size of a change | largest | other side of 0 |"
    )
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in models:
        path = find_model(name)
        with closing(open_engine(path)) as engine:
            if not as_streaming(engine):
                show(name, engine, read_card(path), clips)


def show(name: str, engine: Engine, card: ModelCard, clips: list[Samples]) -> None:
    """One row for each change."""
    before = llrs(engine, card, [(clip, RATE) for clip in clips])
    print(f"| as it is, 16 kHz | `{name}` | {before.mean():.3f} | | | | |")
    for title, change in changes().items():
        after = llrs(engine, card, [change(clip) for clip in clips])
        moved = np.abs(after - before)
        sides = int(((after > 0) != (before > 0)).sum())
        print(
            f"| {title} | `{name}` | {after.mean():.3f} | {(after - before).mean():+.3f} | {moved.mean():.3f} "
            f"| {moved.max():.2f} | {sides} |"
        )


def show_codecs(name: str, model: LoadedModel, clips: list[Samples], bonafide: np.ndarray) -> None:
    """One row for each codec, of the clips that are judged with and without it."""
    files = [sixteen_bits(clip) for clip in clips]
    before = [judged(model, clip) for clip in files]
    for title, codec in {"none": None, **CODECS}.items():
        after = [judged(model, through_ffmpeg(clip, RATE, *codec)) for clip in files] if codec else before
        both = [k for k, pair in enumerate(zip(before, after, strict=True)) if all(one.llr is not None for one in pair)]
        llr, was = (np.array([part[k].llr for k in both], float) for part in (after, before))
        real, spoof = bonafide[both], np.array([after[k].state == "spoof" for k in both])
        print(
            f"| {title} | `{name}`, {len(both)} clips | {llr.mean():.3f} | {(llr - was).mean():+.3f} "
            f"| {np.abs(llr - was).mean():.3f} | {100 * eer(llr[real], llr[~real]):.1f} "
            f"| {100 * spoof[real].mean():.1f}, {100 * spoof[~real].mean():.1f} |"
        )


def show_sensitivity(name: str, model: LoadedModel, clips: list[Samples]) -> None:
    """Two rows: changes of the LLR and of the seconds of voice where no flag of the gain is set."""
    llrs, voiced = list[float](), list[float]()
    for clip in map(sixteen_bits, clips):
        before = judged(model, clip)
        for after in (judged(model, sixteen_bits(amplified(clip, gain)[0])) for gain in MODERATE):
            if not SET & (before.flags.keys() | after.flags.keys()):
                voiced.append(abs(after.voiced - before.voiced))
                if before.llr is not None and after.llr is not None:
                    llrs.append(abs(after.llr - before.llr))
    for title, moved in (("LLR", llrs), ("s of voice", voiced)):
        found = " | ".join(f"{np.quantile(moved, share):.2f}" for share in SHARES) if moved else " | " * len(SHARES)
        print(f"| `{name}`, {len(moved)} pairs | {title} | {found} |")


def show_states(name: str, model: LoadedModel, clips: list[Samples]) -> None:
    """One row for each gain, after one with the share of `borderline`."""
    files = [sixteen_bits(clip) for clip in clips]
    before = [judged(model, clip) for clip in files]
    claims = [one for one in before if one.state in ("bonafide", "spoof", "unsure")]
    close = sum("borderline" in one.flags for one in claims)
    print(f"| none | `{name}` | | | | {close} of {len(claims)} claims are `borderline` |")
    for gain in GAINS:
        after = [judged(model, sixteen_bits(amplified(clip, gain)[0])) for clip in files]
        moved = [(a, b) for a, b in zip(before, after, strict=True) if a.state != b.state]
        bare = [(a, b) for a, b in moved if not SET & (a.flags.keys() | b.flags.keys())]
        left = Counter(
            f"{a.state} to {b.state}" for a, b in bare if "borderline" not in a.flags.keys() | b.flags.keys()
        )
        print(f"| {gain:+d} dB | `{name}` | {len(moved)} | {len(bare)} | {left.total()} | {', '.join(sorted(left))} |")


def judged(model: LoadedModel, clip: Samples) -> Summary:
    """Judge a clip as `shrike scan` does."""
    stream = Stream(model, RATE, covering(model))
    stream.push(clip)
    return stream.finish()


def sixteen_bits(clip: Samples) -> Samples:
    return (np.rint(32768 * clip).clip(-32768, 32767) / 32768).astype(np.float32)


def llrs(engine: Engine, card: ModelCard, sounds: list[tuple[Samples, int]]) -> np.ndarray:
    """Log-likelihood ratios of the first windows, (n,)."""
    found, frontend = [], card.frontend
    longest = round(frontend.seconds * frontend.rate)  # samples
    for sound, rate in sounds:
        resampler = Resampler(rate, frontend.rate)
        samples = np.concatenate([resampler.push(sound[:, None])[0], resampler.flush()])[:longest]
        scorer = StreamScorer(engine, frontend, full_only=True)
        scores = [*scorer.push(samples), *scorer.finish()]
        found.append(card.score.llr(scores[-1].value))
    return np.array(found)


def changes() -> dict[str, Change]:
    """Every change by its title; those of programs that are not installed are left out."""
    programs = {"soxr": by_soxr, "ffmpeg": by_ffmpeg, "sox": by_sox}
    made: dict[str, Change] = {
        f"{rate / 1000:g} kHz by {program}": partial(convert, rate=rate)
        for rate in RATES
        for program, convert in programs.items()
        if program == "soxr" or shutil.which(program)
    }
    made[f"offset {OFFSET}"] = lambda clip: (clipped(clip + np.float32(OFFSET)), RATE)
    for gain in GAINS:
        made[f"gain {gain:+d} dB"] = partial(amplified, gain=gain)
    return made


def amplified(clip: Samples, gain: float) -> tuple[Samples, int]:
    return clipped(clip * np.float32(10 ** (gain / 20))), RATE


def clipped(sound: Samples) -> Samples:
    return np.clip(sound, -1.0, 1.0).astype(np.float32)


def by_soxr(clip: Samples, rate: int) -> tuple[Samples, int]:
    return soxr.resample(clip, RATE, rate, "HQ"), rate


def by_ffmpeg(clip: Samples, rate: int) -> tuple[Samples, int]:
    raw = ["-f", "f32le", "-ac", "1"]
    command = ["ffmpeg", "-loglevel", "error", *raw, "-ar", str(RATE), "-i", "pipe:0", *raw, "-ar", str(rate), "pipe:1"]
    return through(command, clip), rate


def by_sox(clip: Samples, rate: int) -> tuple[Samples, int]:
    raw = ["-t", "f32", "-c", "1", "-r"]
    return through(["sox", "-V1", *raw, str(RATE), "-", *raw, str(rate), "-"], clip), rate


def through(command: list[str], clip: Samples) -> Samples:
    """Float32 samples through a program's pipes."""
    done = subprocess.run(command, input=clip.tobytes(), capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode:
        raise ShrikeError(
            f"{command[0]} failed: {done.stderr.decode('utf-8', 'replace').strip().partition(chr(10))[0]}"
        )
    return np.frombuffer(done.stdout, np.float32).copy()


if __name__ == "__main__":
    run(main)
