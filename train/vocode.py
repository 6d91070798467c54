"""Make vocoded copies of a corpus's real training clips: fakes with the words, voice and channel of their originals.

python -m train.vocode --corpus /data/corpus --only open=1 --by world lpc griffin-lim --out /data/vocoded
python -m train.vocode --corpus /data/corpus --by lyra --lyra /data/lyra/model_coeffs --out /data/vocoded
python -m train.vocode --corpus /data/corpus --by /data/hifigan.onnx --out /data/vocoded
python -m train --corpus /data/corpus /data/vocoded

--out becomes a corpus: audio, protocols/train.txt with the vocoder as system, and metadata.csv, where original_path
names the original. A copy has its original's length, level and coding: Opus at 40 kb/s for .ogg, else FLAC. Repeat
the command to continue, or with other vocoders to add theirs. docs/training.md#vocoded-copies has formats of ONNX
files.
"""

import csv
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from runtime.support.atomic import atomic_file
from runtime.support.command import WORDS, parse, run
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby, nearest
from train.augment import LYRA, VOCODERS

if TYPE_CHECKING:
    from train.augment.vocoders import Vocoder
    from train.data.corpus import Partition, Trial

MARK = "__"  # between an original's name and its vocoder's, in a copy's name
SHORTEST = 0.25  # s; vocoders need some periods of a voice
BIT_RATE = "40k"  # of Opus, in its CELT mode


@dataclass(frozen=True)
class Options:
    """Make vocoded copies of the bona fide training clips of a corpus."""

    corpus: Path
    """Folder of the corpus, as for python -m train."""
    by: Annotated[tuple, WORDS]
    """Vocoders: lyra, world, lpc, griffin-lim, or an ONNX file of a vocoder or codec."""
    lyra: Path | None = None
    """Folder with Lyra's three .tflite files, for --by lyra."""
    only: str = ""
    """Copy only trials whose row in the corpus's metadata.csv matches, as in open=1."""
    out: Path = Path("runs/vocoded")
    """Folder of the copies, a corpus."""
    workers: int = 0
    """Processes; 0 starts one per core."""
    seed: int = 0
    """Seed of everything that a vocoder draws."""


def main() -> None:
    options = parse(Options, "train.vocode", __doc__)
    check(options)
    from train.augment.codecs import ffmpeg_program
    from train.augment.vocoders import open_vocoder
    from train.data.corpus import open_corpus, select
    from train.data.processes import cores, in_processes
    from train.progress import Progress, say

    whole = open_corpus(options.corpus, "train")
    partition = select(whole, options.only)
    say(partition.describe())
    originals = [trial for trial in partition.trials if trial.bonafide]
    if any(target(trial, options.by[0], options).suffix == ".ogg" for trial in originals):
        ffmpeg_program()  # an error now
    for by in options.by:
        open_vocoder(by, options.lyra)
    waiting = [trial for trial in originals if any(not target(trial, by, options).exists() for by in options.by)]
    failures = list[str]()
    try:
        with Progress("vocoded copies", len(waiting), "clips") as progress:
            if waiting:
                processes = options.workers or cores()
                work = in_processes(copy_all, waiting, processes, "made copies", begin, (options,))
                with closing(work) as results:
                    for _, failed in results:
                        failures += failed
                        progress.advance()
    finally:
        write_lists(whole, options)
    for failure in failures[:5]:
        say(f"  left out: {failure}")
    copies = sum(target(trial, by, options).exists() for trial in originals for by in options.by)
    say(f"{copies:,} copies of {len(originals):,} clips, {len(failures):,} left out")
    print(options.out)


def check(options: Options) -> None:
    if not options.by:
        raise ShrikeError(f"--by: expected some of {', '.join(VOCODERS)}, or an ONNX file")
    for name in options.by:
        if name not in VOCODERS and not (name.endswith(".onnx") and Path(name).is_file()):
            hint = nearby(Path(name)) if name.endswith(".onnx") else nearest(name, VOCODERS)
            raise ShrikeError(f"--by {name}: expected {', '.join(VOCODERS)}, or an ONNX file{hint}")
    lyra = options.lyra
    if "lyra" in options.by and not (lyra and all((lyra / name).is_file() for name in LYRA)):
        hint = nearby(lyra) if lyra else ""
        raise ShrikeError(f"--lyra {lyra}: expected the folder lyra/model_coeffs of google/lyra, for --by lyra{hint}")
    if options.workers < 0:
        raise ShrikeError(f"--workers {options.workers}: expected 0 or more")


def target(trial: "Trial", by: str, options: Options) -> Path:
    """Return the path of a copy: Ogg for Ogg, else FLAC."""
    assert trial.path is not None
    ending = "ogg" if trial.path.suffix.lower() == ".ogg" else "flac"
    return options.out / ending / f"{trial.utterance}{MARK}{system(by)}.{ending}"


def system(by: str) -> str:
    """Return the name of a vocoder in protocols: for an ONNX file, its own without spaces."""
    return by if by in VOCODERS else "-".join(Path(by).stem.split())


# ---- one clip, in a process of the pool ----------------------------------------------------------------------------

_open: dict[str, Any] = {}  # options and vocoders of this process


def begin(options: Options) -> None:
    import torch

    from train.augment.vocoders import open_vocoder

    torch.set_num_threads(1)  # one process per core
    _open.update(options=options, vocoders={by: open_vocoder(by, options.lyra) for by in options.by})


def copy_all(trial: "Trial") -> list[str]:
    """Write a clip's missing copies; return a sentence for each that could not be made."""
    from runtime.audio.decode import load
    from runtime.support.errors import AudioError
    from train.augment.vocoders import RATE

    options, failures = _open["options"], []
    try:
        sound = load(trial.path or "", RATE).samples
    except AudioError as error:
        return [f"{trial.utterance}: {error}"]
    if len(sound) < SHORTEST * RATE:
        return [f"{trial.utterance}: shorter than {SHORTEST} s"]
    for by, vocoder in _open["vocoders"].items():
        path = target(trial, by, options)
        if path.exists():
            continue
        try:
            write_copy(path, resynthesise(sound, vocoder, f"{options.seed} {path.stem}"))
        except (ValueError, RuntimeError, ShrikeError) as error:  # a clip that a vocoder or the codec cannot take
            failures.append(f"{path.stem}: {' '.join(str(error).split())[:120]}")
    return failures


def resynthesise(sound: Any, vocoder: "Vocoder", seed: str) -> Any:
    """Copy a clip at its length and level, (n,) float32 -> (n,) int16, without exact zeros that it has not itself."""
    import hashlib

    import numpy as np

    from train.augment.filters import as_long

    dice = np.random.default_rng(int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big"))
    made = as_long(vocoder(sound, dice), len(sound)).astype(np.float64)
    if not np.isfinite(made).all() or made.std() < 1e-6:
        raise ValueError("the copy is silent or not finite")
    made *= sound.std(dtype=np.float64) / made.std()
    made /= max(1.0, float(np.abs(made).max()))
    samples = np.clip(np.rint(made * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    new = (samples == 0) & (np.rint(sound * 2**15) != 0)
    samples[new] = 2 * dice.integers(2, size=int(new.sum())) - 1
    return samples


def write_copy(path: Path, samples: Any) -> None:
    import soundfile

    from train.augment.codecs import run_ffmpeg
    from train.augment.vocoders import RATE

    with atomic_file(path) as temporary:
        if path.suffix == ".flac":
            soundfile.write(temporary, samples, RATE)
            return
        sound = ["-f", "s16le", "-ar", str(RATE), "-ac", "1", "-i", "pipe:0"]
        # lowdelay is CELT alone, without the speech mode that Opus would choose at times.
        coding = ["-c:a", "libopus", "-application", "lowdelay", "-b:a", BIT_RATE, "-f", "ogg", "pipe:1"]
        temporary.write_bytes(run_ffmpeg([*sound, *coding], samples.astype("<i2").tobytes()))


# ---- protocol and metadata of the copies ---------------------------------------------------------------------------


def write_lists(partition: "Partition", options: Options) -> None:
    """Write protocols/train.txt and metadata.csv of all copies in the folder, of this run and of earlier ones."""
    from train.data.corpus import find_metadata, read_metadata
    from train.data.folds import sources

    rows = read_metadata(partition)[2] if find_metadata(partition) else {}
    known = {trial.utterance: (trial, group) for trial, group in zip(partition.trials, sources(partition), strict=True)}
    names = sorted(path.stem for ending in ("ogg", "flac") for path in (options.out / ending).glob(f"*{MARK}*"))
    lines, table = list[str](), list[dict[str, str]]()
    for name in names:
        original, _, vocoder = name.rpartition(MARK)
        if original not in known:  # of another corpus
            continue
        trial, group = known[original]
        lines.append(f"{trial.speaker} {name} - {vocoder} spoof\n")
        # The original's own columns, licence and language among them, hold for the copy as well.
        row = {column: value for column, value in rows.get(original, {}).items() if column not in ("utterance", "file")}
        row |= {"utt": name, "partition": "train", "key": "spoof", "speaker": trial.speaker, "source": group}
        row |= {"system": vocoder, "family": vocoder, "kind": "copy-synthesis", "original_path": original}
        table.append(row | {"corpus": options.corpus.resolve().name})
    if not table:
        return
    with atomic_file(options.out / "protocols" / "train.txt") as temporary:
        temporary.write_text("".join(lines), "utf-8")
    columns = list(dict.fromkeys(column for row in table for column in row))
    with atomic_file(options.out / "metadata.csv") as path, open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    run(main)
