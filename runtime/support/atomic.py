"""Write outputs completely or not at all: under a temporary name beside the target, which is then renamed.

with atomic_file("model.pt") as temporary:
    torch.save(state, temporary)

with atomic_files("deploy", ["model.onnx", "model.json"]) as folder:      # both or none
    (folder / "model.onnx").write_bytes(graph)
    (folder / "model.json").write_text(card)

with atomic_folder("runs/reports/latency") as folder:      # all of it or nothing; replaces an existing folder
    (folder / "report.json").write_text(report)

Temporary names that a killed run has left in a folder are removed when the next process uses that folder.
"""

import errno
import os
import platform
import re
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.support.errors import ShrikeError

HOST = re.sub(r"\W", "_", platform.node())
LEFT_OVER = re.compile(r"\.(.+)\.shrike-(\w*)-(\d+)(\..*)?")  # name, host, process, suffix
FORGOTTEN = 86_400.0  # s without a change after which another machine's or container's temporary name is left over
BEFORE = ".before"  # suffix of a folder that is being replaced

_tidied, _lock = set[Path](), threading.Lock()


def temporary_name(target: Path, suffix: str = "") -> Path:
    """Return the name beside a target under which this process writes it; remove what killed runs have left there."""
    tidy(target.parent)
    return target.with_name(f".{target.name}.shrike-{HOST}-{os.getpid()}{suffix}")


def tidy(folder: Path) -> None:
    """Remove what killed runs have left in a folder, once in a process."""
    folder = Path(os.path.realpath(folder))
    with _lock:
        if folder in _tidied:
            return
        _tidied.add(folder)
        with suppress(OSError):  # no folder yet, or none that may be changed
            for path in [path for path in folder.iterdir() if _is_left_over(path)]:
                _remove(path)


def _is_left_over(path: Path) -> bool:
    match = LEFT_OVER.fullmatch(path.name)
    if match is None:
        return False
    if match[2] == HOST and os.name == "posix":
        return int(match[3]) == os.getpid() or not _running(int(match[3]))
    return time.time() - path.lstat().st_mtime > FORGOTTEN


def _remove(path: Path) -> None:
    match = LEFT_OVER.fullmatch(path.name)
    if match and match[4] == BEFORE and not path.with_name(match[1]).exists():
        os.replace(path, path.with_name(match[1]))  # killed between both renames of atomic_folder
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # another account's
    return True


@contextmanager
def _staged(temporary: Path, target: Path) -> Iterator[None]:
    """Let errors name the target, and remove the temporary file or folder at the end if it is still there."""
    try:
        with explain_errors(target):
            yield
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; rename it on success, remove it on any failure."""
    path = Path(path)
    temporary = temporary_name(path.with_suffix(""), path.suffix)
    with _staged(temporary, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, path)


@contextmanager
def atomic_files(folder: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder for the files `names`; on success move all of them to `folder`, in this order.

    Name the file with the checksums last: a reader that finds some files moved then still reads the old checksums.
    """
    folder = Path(folder)
    temporary = temporary_name(folder / names[-1])
    with _staged(temporary, folder):
        for name in names:
            if (folder / name).is_dir():
                raise ShrikeError(f"{folder / name} is a folder; expected a file, give another name")
        temporary.mkdir(parents=True)
        yield temporary
        for name in names:
            _flush_to_disk(temporary / name)
        for name in names:
            os.replace(temporary / name, folder / name)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside the target; on success it replaces the target, which the caller may overwrite."""
    folder = Path(os.path.abspath(folder))
    temporary, before = temporary_name(folder), temporary_name(folder, BEFORE)
    with _staged(temporary, folder):
        temporary.mkdir(parents=True)
        yield temporary
        for path in filter(Path.is_file, temporary.rglob("*")):
            _flush_to_disk(path)
        if folder.exists():
            os.replace(folder, before)
        try:
            os.replace(temporary, folder)
        except OSError:
            if before.exists():
                os.replace(before, folder)
            raise
        shutil.rmtree(before, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    """Wait until the content is on the disk: otherwise a rename may survive a power cut that the content does not."""
    with open(path, "rb+") as written:
        os.fsync(written.fileno())


@contextmanager
def explain_errors(target: Path) -> Iterator[None]:
    """Turn system errors that the user can fix into a ShrikeError that names the target."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space left on this disk; the previous content is unchanged"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST):
            reason = f"cannot be written ({error.strerror})"
        else:
            raise
        raise ShrikeError(f"{target}: {reason}") from error


FULL = 65_536  # bytes; a disk with less has no room for the next block of sound


def write_problem(error: BaseException, folder: Path) -> str:
    """Return why writing into a folder ended. libsndfile says no more than `System error` when the disk is full."""
    number = getattr(error, "errno", None) or getattr(error.__cause__, "errno", None)
    with suppress(OSError):
        if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and shutil.disk_usage(folder).free < FULL):
            return "disk full"
    return " ".join(str(error).split()) or type(error).__name__
