"""Find the sound files below files and folders.

for path in find_files([Path("calls"), Path("one.wav")]):
    ...
"""

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby

ENDINGS = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".m4a", ".aac", ".amr", ".wma", ".mp4", ".mov", ".mkv", ".webm",
)  # fmt: skip


def find_files(paths: Iterable[Path]) -> list[Path]:
    """List files as they are given, and those in folders sorted, each once.

    In folders, symbolic links, hidden names and other endings are left out.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not os.path.exists(path):
            raise ShrikeError(f"{path}: expected a file or folder; there is none{nearby(path)}")
        inside = _walk(path) if os.path.isdir(path) else [path]
        if not inside:
            raise ShrikeError(
                f"{path}: expected a folder with sound files; no name ends in .wav, .flac, .mp3 or the like"
            )
        found |= dict.fromkeys(inside)
    return list(found)


def _walk(folder: Path) -> list[Path]:
    inside = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and name.lower().endswith(ENDINGS) and not path.is_symlink():
                inside.append(path)
    return inside
