"""Score sound files and write one CSV row for each.

    python examples/files.py calls/*.wav > scores.csv
    python examples/files.py calls/ --model accurate

A file that cannot be read gets a row with the reason; the others are scored.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import soundfile

from runtime import ShrikeError, load

ENDINGS = {".wav", ".flac", ".ogg", ".mp3"}


def files(paths: list[Path]) -> Iterator[Path]:
    """List the files, and the sound files below folders."""
    for path in paths:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS)
        else:
            yield path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, help="files or folders")
    parser.add_argument("--model", default="accurate", help="accurate, edge, f0, or a path to model.onnx")
    options = parser.parse_args()
    rows, failed = csv.writer(sys.stdout), 0
    rows.writerow(["file", "seconds", "state", "llr", "p_spoof", "error"])
    with load(options.model) as detector:
        for path in files(options.paths):
            try:
                samples, rate = soundfile.read(path, dtype="float32")
                summary = detector.score(samples, rate)
            except (ShrikeError, soundfile.LibsndfileError) as error:
                rows.writerow([path, "", "", "", "", error])
                failed += 1
                continue
            rows.writerow([path, f"{len(samples) / rate:.2f}", summary.state, summary.llr, summary.p_spoof, ""])
    return 2 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
