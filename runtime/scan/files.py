"""Find the sound files below files, folders and URLs.

files, unread = find_files([Path("calls"), Path("one.wav"), "s3://bucket/calls/"])
"""

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.scan.remote import Sound, find_remote, is_sound, is_url
from runtime.support.errors import ShrikeError
from runtime.support.suggestions import nearby


def read_list(path: Path) -> list[Path | str]:
    """Read paths and URLs from a text file, one a line; empty lines are left out."""
    try:
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
    except OSError as error:
        raise ShrikeError(f"--list {path}: cannot be read ({error.strerror})") from error
    return [place(line) for line in lines if line.strip()]


def place(word: str) -> Path | str:
    """Return a URL as text, anything else as a path."""
    return word.strip() if is_url(word) else Path(word)


def find_files(places: Iterable[Path | str]) -> tuple[list[Sound], list[str]]:
    """List files as they are given, and those in folders sorted, each once; and an error for each that cannot be read.

    In folders, symbolic links, hidden names and other endings are left out.
    """
    found: dict[Sound, None] = {}
    errors, urls = list[str](), list[str]()
    for path in places:
        if isinstance(path, str):
            urls.append(path)
            continue
        if not os.path.exists(path):
            errors.append(f"{path}: expected a file or folder; there is none{nearby(path)}")
            continue
        before = len(errors)
        inside = _walk(path, errors) if os.path.isdir(path) else [path]
        if not inside and len(errors) == before:
            raise ShrikeError(
                f"{path}: expected a folder with sound files; no name ends in .wav, .flac, .mp3 or the like"
            )
        found |= dict.fromkeys(inside)
    return list(found | dict.fromkeys(find_remote(urls))), errors


def _walk(folder: Path, errors: list[str]) -> list[Path]:
    def unread(error: OSError) -> None:
        errors.append(f"{os.fspath(error.filename)}: the folder cannot be read ({error.strerror})")

    inside = []
    for parent, folders, names in os.walk(folder, onerror=unread):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent, name)
            if is_sound(name) and not path.is_symlink():
                inside.append(path)
    return inside
