"""Corpora in all layouts, of empty files, and what is refused about them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from runtime.support.errors import ShrikeError
from train.data.corpus import Partition, open_corpus

PLAIN = ("s1 u1 - - bonafide", "s1 u2 - A01 spoof", "s2 u3 - A02 spoof", "s2 u4 - - bonafide")


def protocol(path: Path, lines: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def sounds(directory: Path, *names: str, extension: str = "flac") -> None:
    """Files with the names of sounds; nobody here listens to them."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        (directory / f"{name}.{extension}").touch()


def plain(root: Path, name: str = "train") -> Path:
    """A corpus of two bona fide and two spoof trials in the plain layout."""
    protocol(root / "protocols" / f"{name}.txt", PLAIN)
    sounds(root / "flac", "u1", "u2", "u3", "u4")
    return root


def refused(root: Path, partition: str = "train", **options: object) -> str:
    with pytest.raises(ShrikeError) as caught:
        open_corpus(root, partition, **options)  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def utterances(partition: Partition) -> list[str]:
    return [trial.utterance for trial in partition.trials]
