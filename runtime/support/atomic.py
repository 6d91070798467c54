"""Write outputs completely or not at all: under a temporary name beside the target, which is then renamed.

with atomic_file("model.pt") as temporary:
    torch.save(state, temporary)

with atomic_files("deploy", ["model.onnx", "model.json"]) as folder:      # both or none
    (folder / "model.onnx").write_bytes(graph)
    (folder / "model.json").write_text(card)

with atomic_folder("runs/reports/latency") as folder:      # all of it or nothing; replaces an existing folder
    (folder / "report.json").write_text(report)
"""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from runtime.support.errors import ShrikeError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix; rename it on success, remove it on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with _explain_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # it may not exist
            temporary.unlink()
        raise


@contextmanager
def atomic_files(folder: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """Yield an empty folder for the files `names`; on success move all of them to `folder`, in this order.

    Name the file with the checksums last: a reader that finds some files moved then still reads the old checksums.
    """
    folder = Path(folder)
    temporary = folder / f".{names[-1]}.{os.getpid()}"
    try:
        with _explain_errors(folder):
            for name in names:
                if (folder / name).is_dir():
                    raise ShrikeError(f"{folder / name} is a folder; expected a file, give another name")
            temporary.mkdir(parents=True)
            yield temporary
            for name in names:
                _flush_to_disk(temporary / name)
            for name in names:
                os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside the target; on success it replaces the target, which the caller may overwrite."""
    folder = Path(os.path.abspath(folder))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    before = folder.with_name(f".{folder.name}.{os.getpid()}.before")
    try:
        with _explain_errors(folder):
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
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if folder.exists():
            shutil.rmtree(before, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    """Wait until the content is on the disk: otherwise a rename may survive a power cut that the content does not."""
    with open(path, "rb+") as written:
        os.fsync(written.fileno())


@contextmanager
def _explain_errors(target: Path) -> Iterator[None]:
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
    if number in (errno.ENOSPC, errno.EDQUOT) or (number is None and _is_full(folder)):
        return "disk full"
    return " ".join(str(error).split()) or type(error).__name__


def _is_full(folder: Path) -> bool:
    try:
        status = os.statvfs(folder)
    except OSError:
        return False
    return status.f_bavail * status.f_frsize < FULL
