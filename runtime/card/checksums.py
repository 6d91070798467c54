"""File names that stay in their folder, and their sha256.

verify_file(Path("deploy/model.json"), "model.onnx", "9f86d0...")    # a ShrikeError if missing, changed or elsewhere
"""

import hashlib
import os
import re
import stat
from pathlib import Path

from runtime.support.errors import ShrikeError

LARGEST_FILE = 1 << 30  # bytes of a model; SENet50 in float32 needs 40 MB
LONGEST_NAME = 255  # bytes, the limit of file systems


def sha256_file(path: str | os.PathLike[str]) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_name(name: str) -> None:
    """Require a plain file name, which cannot point to another folder on any system."""
    plain = name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name) and len(name.encode()) <= LONGEST_NAME
    if not plain:
        raise ShrikeError(f"file name {name!r}: expected a plain name without a folder, as in model.onnx")


def check_sha256(digest: str, name: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ShrikeError(f"{name}: expected a sha256 of 64 hexadecimal digits")


def verify_file(card_file: Path, name: str, digest: str) -> None:
    """Check that the file `name` lies beside the card, inside its folder even if it is a link, and has this sha256."""
    path, folder = card_file.with_name(name), card_file.parent.resolve()
    try:
        resolved = path.resolve(strict=True)
        if folder not in resolved.parents:
            raise ShrikeError(f"{path} links to {resolved}, outside the card's folder: put the file itself there")
        status = resolved.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_FILE:
            raise ShrikeError(f"{path}: expected a regular file of at most {LARGEST_FILE >> 20:,} MiB")
        found = sha256_file(resolved)
    except FileNotFoundError:
        raise ShrikeError(
            f"{card_file.name} lists {name}, but {path} is missing; copy all files of the export"
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that leads to itself
        raise ShrikeError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if found != digest:
        raise ShrikeError(
            f"{path}: sha256 {found[:12]}..., but {card_file.name} expects {digest[:12]}...; the file is changed or "
            "damaged: copy both again, or export the model again"
        )
