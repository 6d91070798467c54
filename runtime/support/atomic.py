"""Outputs are whole or not there: written under a temporary name beside the target, then renamed.

with atomic_file("model.pt") as temporary:
    torch.save(state, temporary)

with atomic_files("deploy", ["model.onnx", "model.json"]) as folder:      # both or neither
    (folder / "model.onnx").write_bytes(graph)
    (folder / "model.json").write_text(card)

with atomic_folder("runs/reports/latency") as folder:      # all of it or nothing; what stood there before goes
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
    """Yields a temporary path with the same ending; renames it on success, removes it on any failure."""
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _settle(temporary)
            os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # it may never have been made
            temporary.unlink()
        raise


@contextmanager
def atomic_files(folder: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """Yields an empty folder to write `names` into; moves all of them to `folder` on success, in this order.

    So the file that vouches for the others stands last: a reader that meets a half-moved set finds the old one there.
    """
    folder = Path(folder)
    temporary = folder / f".{names[-1]}.{os.getpid()}"
    try:
        with _explained(folder):
            for name in names:
                if (folder / name).is_dir():
                    raise ShrikeError(f"{folder / name} is a folder; a file was expected there, give another name")
            temporary.mkdir(parents=True)
            yield temporary
            for name in names:
                _settle(temporary / name)
            for name in names:
                os.replace(temporary / name, folder / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yields an empty folder beside the target; on success it takes the target's place. Whoever calls this has asked
    whether what stands there may go."""
    folder = Path(os.path.abspath(folder))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    before = folder.with_name(f".{folder.name}.{os.getpid()}.before")
    try:
        with _explained(folder):
            temporary.mkdir(parents=True)
            yield temporary
            for path in filter(Path.is_file, temporary.rglob("*")):
                _settle(path)
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


def _settle(path: Path) -> None:
    """On the disk, not only on its way there: a rename may otherwise outlive a power cut that the content does not."""
    with open(path, "rb+") as written:
        os.fsync(written.fileno())


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """What a user can mend is said in a sentence that names the target; anything else stays as it is."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "no space left on this disk; what stood there before is untouched"
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
