"""Train, score and export a detector on two folders of your own: recordings of people and of fakes.

    python examples/train_own_folder.py real/ fake/ --out runs/mine
    python examples/train_own_folder.py real/ fake/ --out runs/mine --epochs 40 --network ecanet18

Files are split into train, dev and eval by their own folder (one speaker or one system in each), so that no speaker and
no system is in two parts. This writes a corpus of links in OUT/corpus and calls Shrike's own commands.
"""

import argparse
import hashlib
import subprocess
import sys
from pathlib import Path

ENDINGS = {".wav", ".flac", ".ogg", ".mp3"}
PARTS = ("train",) * 6 + ("dev",) * 2 + ("eval",) * 2  # of ten folders


def split(folder: Path) -> dict[Path, str]:
    """Assign every sound file below `folder` to a part by its parent folder; the order is that of a hash."""
    found = [path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS]
    groups = {path.parent.relative_to(folder) for path in found}
    if len(groups) < 3:
        sys.exit(
            f"error: {folder} has {len(groups)} folders with sound files: expected 3 or more, one a speaker or system"
        )
    ordered = sorted(groups, key=lambda group: hashlib.sha256(str(group).encode()).digest())
    rest = dict(zip(ordered[3:], (PARTS[place % len(PARTS)] for place in range(len(ordered))), strict=False))
    parts = dict(zip(ordered[:3], ("train", "dev", "eval"), strict=True)) | rest
    return {path: parts[path.parent.relative_to(folder)] for path in sorted(found)}


def make_corpus(real: Path, fake: Path, corpus: Path) -> None:
    """Write protocols in ASVspoof's form, `SPEAKER UTTERANCE - ATTACK KEY`, and links to the files."""
    (corpus / "audio").mkdir(parents=True, exist_ok=True)
    (corpus / "protocols").mkdir(exist_ok=True)
    lines: dict[str, list[str]] = {"train": [], "dev": [], "eval": []}
    for folder, key in ((real, "bonafide"), (fake, "spoof")):
        for number, (path, part) in enumerate(split(folder).items()):
            name = f"{key}_{number:06d}"
            link = corpus / "audio" / f"{name}{path.suffix.lower()}"
            link.unlink(missing_ok=True)
            link.symlink_to(path.resolve())
            group = "_".join(path.parent.relative_to(folder).parts) or "-"
            group = "".join(letter if letter.isalnum() else "_" for letter in group)
            speaker, attack = (group, "-") if key == "bonafide" else ("-", group)
            lines[part].append(f"{speaker} {name} - {attack} {key}\n")
    for part, written in lines.items():
        (corpus / "protocols" / f"{part}.txt").write_text("".join(written))
        print(f"{part}: {len(written)} files", flush=True)


def shrike(*words: object) -> None:
    """Run one of Shrike's commands; stop with its exit code if it fails."""
    print("$ python -m", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", *map(str, words)])
    if done.returncode:
        sys.exit(done.returncode)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("real", type=Path, help="folder with a folder of recordings for each speaker")
    parser.add_argument("fake", type=Path, help="folder with a folder of fakes for each system")
    parser.add_argument("--out", type=Path, required=True, help="folder of the corpus, the run and the model")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--network", default="ecanet9")
    options, more = parser.parse_known_args()  # what is left goes to python -m train
    corpus, run = options.out / "corpus", options.out / "run"
    make_corpus(options.real, options.fake, corpus)
    shrike("train", "--corpus", corpus, "--out", run, "--network", options.network, "--frontend", "wide",
           "--epochs", options.epochs, *more)  # fmt: skip
    shrike("train.score", run / "model.pt", "--corpus", corpus, "--partition", "eval", "--out", run / "eval.scores.txt")
    shrike("export.onnx", run / "model.pt", "--precision", "fp32", "--verification", corpus,
           "--out", options.out / "model.onnx")  # fmt: skip
    print(f"try it: python -m runtime.stream --mic --model {options.out / 'model.onnx'}")


if __name__ == "__main__":
    main()
