"""A corpus's trial lists and table, read without Shrike: the tests' expectations of whatever edition is there."""

import csv
from pathlib import Path


def listed(root: Path, partition: str) -> list[tuple[str, str, str]]:
    """Utterance, attack and key of every line of `protocols/PARTITION.txt`."""
    lines = (root / "protocols" / f"{partition}.txt").read_text(encoding="utf-8").splitlines()
    rows = [(fields[1], fields[3], fields[4]) for fields in map(str.split, lines) if fields]
    assert {key for _, _, key in rows} == {"bonafide", "spoof"}
    return rows


def table(root: Path) -> dict[str, dict[str, str]]:
    """The rows of metadata.csv by utterance."""
    with open(root / "metadata.csv", newline="", encoding="utf-8") as file:
        return {row["utt"]: row for row in csv.DictReader(file)}
