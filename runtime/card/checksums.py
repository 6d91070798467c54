"""Is this file the one that was meant? Names that stay in their folder, and sha256 over what they name.

verify_file(Path("deploy/model.json"), "model.onnx", "9f86d0...")    # or a ShrikeError: missing, changed, elsewhere
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from runtime.support.errors import ShrikeError

LARGEST_FILE = 1 << 30  # bytes of a model; SENet50 in float has under 10 million
LONGEST_NAME = 255  # bytes, what file systems take


def sha256_file(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_name(name: str) -> None:
    """A plain file name: no way into another folder, on any system."""
    plain = name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name) and len(name.encode()) <= LONGEST_NAME
    if not plain:
        raise ShrikeError(
            f"the file name {name!r} leads out of the card's folder; a plain name as in model.onnx was expected"
        )


def check_sha256(digest: str, what: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ShrikeError(f"{what}: a sha256 of 64 hexadecimal digits was expected")


def verify_file(speaker: Path, name: str, digest: str) -> None:
    """The file `name` beside `speaker` is there, inside that folder even if it is a link, and has this sha256."""
    path, folder = speaker.with_name(name), speaker.parent.resolve()
    try:
        resolved = path.resolve(strict=True)
        if folder not in resolved.parents:
            raise ShrikeError(f"{path} leads out of the card's folder, to {resolved}: put the file itself there")
        status = resolved.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
            raise ShrikeError(f"{path} is no model: a file of at most {LARGEST_FILE >> 20:,} MiB was expected")
        found = sha256_file(resolved)
    except FileNotFoundError:
        raise ShrikeError(
            f"{path} is missing, but {speaker.name} speaks for it; copy an export's files together"
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise ShrikeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if found != digest:
        raise ShrikeError(
            f"{path} is not the file that {speaker.name} speaks for (sha256 {found[:12]}..., expected "
            f"{digest[:12]}...): it was changed or damaged; copy both again, or export the model again"
        )
