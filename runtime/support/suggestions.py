"""Suggest an existing name or path at the end of an error message.

raise ShrikeError(f"--model {name!r}: no such model{nearest(name, known)}")       # ...; did you mean edge?
raise ShrikeError(f"{path} does not exist{nearby(path)}")                         # ...; did you mean runs/a/model.pt?
"""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

SIMILARITY = 0.6  # difflib's ratio: one wrong letter in three, two swapped in five
MOST = 10_000  # names read from a folder: an audio folder with a million must not take a second


def nearest(word: str, known: Iterable[str], otherwise: Sequence[str] = ()) -> str:
    """Suggest the known name most similar to `word`, or the first of `otherwise` where none is."""
    found = [*difflib.get_close_matches(word, list(known), 1, SIMILARITY), *otherwise]
    return f"; did you mean {found[0]}?" if found else ""


def nearby(path: str | os.PathLike[str]) -> str:
    """Suggest an existing path that differs from `path` in the first part that does not exist."""
    there, rest = Path(path), list[str]()
    while not os.path.exists(there):  # Path.exists() raises where a name is too long
        if there.parent == there:
            return ""
        rest.insert(0, there.name)
        there = there.parent
    if not rest or not there.is_dir():
        return ""
    try:
        with os.scandir(there) as entries:
            names = [entry.name for _, entry in zip(range(MOST), entries, strict=False)]
    except OSError:
        return ""
    similar = (name for name in difflib.get_close_matches(rest[0], names, 3, SIMILARITY) if name.isprintable())
    meant = next((path for name in similar if os.path.exists(path := there.joinpath(name, *rest[1:]))), None)
    return f"; did you mean {meant}?" if meant else ""
