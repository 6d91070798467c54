"""Outputs are whole or not there: written under a temporary name beside the target, then renamed.

with whole_file("model.pt") as temporary:
    torch.save(state, temporary)
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.errors import ShrikeError


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path with the same ending; renames it on success, removes it on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise _readable(error, path) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _readable(error: OSError, path: Path) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ShrikeError(f"{path}: no space left on this disk; what stood there before is untouched")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR):
        return ShrikeError(f"{path}: cannot be written ({error.strerror})")
    return error
