"""Sound files behind URLs: object storage, web servers, and whatever else fsspec opens.

    files = find_remote(["s3://bucket/calls/", "https://host/one.flac"])
    with local_file(files[0], FileAccess()) as path:     # a temporary copy
        ...

Size and time of the last change are those of the listing: a file that changes later is scored anew by the next run.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from runtime.support.errors import ShrikeError
from runtime.support.extras import require_package

ENDINGS = (
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".m4a", ".aac", ".amr", ".wma", ".mp4", ".mov", ".mkv", ".webm",
)  # fmt: skip
LISTED = 16  # URLs whose size is asked for at once
LISTING = 30.0  # s for the size of one
CHANGED = ("mtime", "LastModified", "last_modified", "updated", "created")  # names of the time in fsspec's backends
Made = TypeVar("Made")


@dataclass(frozen=True)
class Remote(os.PathLike[str]):
    """A file behind a URL; its path is the URL."""

    url: str
    size: int = field(default=-1, compare=False)  # bytes, -1 where it is unknown or the file is gone
    modified: int = field(default=0, compare=False)  # ns since 1970, 0 where it is unknown

    def __fspath__(self) -> str:
        return self.url


Sound = Path | Remote


@dataclass(frozen=True)
class FileAccess:
    """Working folder and limits of reading files."""

    folder: str = ""  # of relative paths; the worker's own where empty
    most: int = 10**9  # bytes of a URL
    timeout: float = 300.0  # s until a URL's file has arrived


DEFAULT_ACCESS = FileAccess()


def is_url(text: str) -> bool:
    return "://" in text


def is_sound(name: str) -> bool:
    """True for names with the ending of a sound file that are not hidden."""
    name = name.rpartition("/")[2]
    return name.lower().endswith(ENDINGS) and not name.startswith(".")


def find_remote(urls: Iterable[str]) -> list[Remote]:
    """List URLs as they are given, and the sound files of those that are folders, sorted.

    A file that does not answer is listed without a size: its row gets the reason.
    """
    wanted = list(dict.fromkeys(urls))
    if not wanted:
        return []
    require_package("fsspec")
    with ThreadPoolExecutor(LISTED) as pool:
        return [found for part in pool.map(_list, wanted) for found in part]


def _list(url: str) -> list[Remote]:
    system, path = _open_system(url, LISTING)
    folder = url.endswith("/")
    try:
        info = _within(LISTING, lambda: system.info(path))
        if info["type"] != "directory" and not (folder and _within(LISTING, lambda: system.isdir(path))):
            return [_remote(url, info)]
        folder = True
        inside = system.find(path, detail=True)
    except Exception as error:
        if not folder:
            return [Remote(url)]
        raise ShrikeError(f"{url}: the folder cannot be listed ({_reason(error)})") from error
    names = [name for name in sorted(inside) if is_sound(name) and "/." not in name.removeprefix(path)]
    if not names:
        raise ShrikeError(f"{url}: expected a folder with sound files; no name ends in .wav, .flac, .mp3 or the like")
    return [_remote(system.unstrip_protocol(name), inside[name]) for name in names]


def _remote(url: str, info: dict[str, Any]) -> Remote:
    changed = next((info[name] for name in CHANGED if info.get(name) is not None), 0)
    if isinstance(changed, str):
        with suppress(ValueError):
            changed = datetime.fromisoformat(changed.replace("Z", "+00:00"))
    if isinstance(changed, datetime):
        changed = changed.timestamp()
    size = info.get("size")
    return Remote(url, -1 if size is None else int(size), int(changed * 1e9) if isinstance(changed, int | float) else 0)


@contextmanager
def local_file(path: Sound, access: FileAccess) -> Iterator[Path]:
    """Yield where the file can be opened: of a URL a temporary copy, within the limits of `access`."""
    if not isinstance(path, Remote):
        yield Path(access.folder, path)
        return
    if path.size > access.most:
        raise _too_large(access)
    system, name = _open_system(path.url, access.timeout)
    with tempfile.TemporaryDirectory(prefix="shrike-") as folder:
        copy = Path(folder, "sound" + Path(name.partition("?")[0]).suffix[:8])
        limit = _limit(access)
        try:
            _within(access.timeout, lambda: system.get_file(name, str(copy), callback=limit))
        except ShrikeError:
            raise
        except Exception as error:
            raise ShrikeError(f"it cannot be fetched ({_reason(error)})") from error
        if copy.stat().st_size > access.most:  # a backend that reports no progress
            raise _too_large(access)
        yield copy


def _limit(access: FileAccess) -> Any:
    """Return a callback of fsspec that ends a transfer beyond the limits: the size in a listing may be false."""
    callback = require_package("fsspec.callbacks").Callback
    ends = time.monotonic() + access.timeout

    class Limit(callback):  # type: ignore[misc, valid-type]
        def call(self, *_: object, **__: object) -> None:
            if max(self.value, self.size or 0) > access.most:
                raise _too_large(access)
            if time.monotonic() > ends:
                raise _too_slow(access.timeout)

    return Limit()


def _too_large(access: FileAccess) -> ShrikeError:
    return ShrikeError(f"it has more than {access.most / 1e6:,.0f} MB (--max-mb)")


def _too_slow(seconds: float) -> ShrikeError:
    return ShrikeError(f"it did not arrive within {seconds:g} s (--timeout)")


def _open_system(url: str, timeout: float) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    options = {}
    if url.startswith(("http://", "https://")):
        limit = require_package("aiohttp").ClientTimeout(total=timeout)
        options["client_kwargs"] = {"timeout": limit}
    try:
        return require_package("fsspec.core").url_to_fs(url, **options)
    except (ImportError, ValueError) as error:  # no package for it, or an unknown protocol
        raise ShrikeError(f"{url}: {_reason(error)}") from error


def _within(seconds: float, work: Callable[[], Made]) -> Made:
    """Return the result of `work`, or fail after that time: not every backend has a time-out of its own."""
    result = Future[Made]()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    if not wait([result], seconds).done:
        raise _too_slow(seconds)
    return result.result()


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0].rstrip(": ")[:200]
