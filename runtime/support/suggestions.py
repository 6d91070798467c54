"""What somebody who mistyped may have meant: the end of an error message, or nothing.

raise ShrikeError(f"--model {name!r}: no such model{nearest(name, known)}")       # ...; did you mean wide?
raise ShrikeError(f"{path} does not exist{nearby(path)}")                         # ...; did you mean runs/a/model.pt?
"""

import difflib
import os
from collections.abc import Iterable
from pathlib import Path

ALIKE = 0.6  # of difflib's ratio: one wrong letter in three, two swapped in five
MOST = 10_000  # names of a folder that are looked at: one of an audio folder with a million must not take a second


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name that is most like `word`."""
    found = difflib.get_close_matches(word, list(known), 1, ALIKE)
    return f"; did you mean {found[0]}?" if found else ""


def nearby(path: str | os.PathLike[str]) -> str:
    """The path that exists and differs in one part: the first that does not exist."""
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
    for name in difflib.get_close_matches(rest[0], names, 3, ALIKE):
        meant = there.joinpath(name, *rest[1:])
        if name.isprintable() and os.path.exists(meant):
            return f"; did you mean {meant}?"
    return ""
