"""Find the sound files below files and folders.

files, unread = find_files([Path("calls"), Path("one.wav")])
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


def find_files(paths: Iterable[Path]) -> tuple[list[Path], list[OSError]]:
    """List files as they are given, and those in folders sorted, each once; and an error for each unreadable folder.

    In folders, symbolic links, hidden names and other endings are left out.
    """
    found: dict[Path, None] = {}
    unread: list[OSError] = []
    for path in paths:
        if not os.path.exists(path):
            raise ShrikeError(f"{path}: expected a file or folder; there is none{nearby(path)}")
        before = len(unread)
        inside = _walk(path, unread) if os.path.isdir(path) else [path]
        if not inside and len(unread) == before:
            raise ShrikeError(
                f"{path}: expected a folder with sound files; no name ends in .wav, .flac, .mp3 or the like"
            )
        found |= dict.fromkeys(inside)
    return list(found), unread


def _walk(folder: Path, unread: list[OSError]) -> list[Path]:
    inside = []
    for parent, folders, names in os.walk(folder, onerror=unread.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if not name.startswith(".") and name.lower().endswith(ENDINGS) and not path.is_symlink():
                inside.append(path)
    return inside
