"""Table of a scan, one row a file: CSV, or JSON Lines. It survives a kill, and a later run goes on with it.

    with ResultFile(Path("verdicts.csv"), "csv", settings, overwrite=False) as table:
        if table.row(path) is None:
            table.add(result)
        table.complete()                             # verdicts.csv.partial becomes verdicts.csv

Each row is on the disk before the next file is scored. Rows of other files stay. The partial file is locked: another
scan of the same table is refused.
"""

import csv
import io
import json
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from runtime.scan.remote import Sound
from runtime.scan.workers import Result, file_state
from runtime.sinks.jsonl import rounded
from runtime.support.atomic import atomic_file, explain_errors
from runtime.support.errors import ShrikeError, printable

Form = Literal["csv", "json"]
Row = dict[str, Any]
COLUMNS = (
    "file", "state", "p_spoof", "llr", "voiced", "seconds", "segments", "flags", "channel", "model", "error",
    "size", "modified", "sha256", "options",
)  # fmt: skip
TITLES: Row = {name: name for name in COLUMNS}


@dataclass(frozen=True)
class Settings:
    """All that verdicts depend on, beside the sound."""

    model: str
    sha256: str  # of the card
    options: str


def make_row(result: Result, settings: Settings) -> Row:
    """Return the row of one file, in the types of JSON."""
    row: Row = dict.fromkeys(COLUMNS) | {"file": printable(os.fspath(result.path)), "error": result.error or None}
    row |= {"size": result.size, "modified": result.modified} | asdict(settings)
    if (found := result.summary) is not None:
        row |= {
            "state": found.state,
            "p_spoof": rounded(found.p_spoof),
            "llr": rounded(found.llr),
            "voiced": rounded(found.voiced),
            "seconds": rounded(found.seconds),
            "segments": [{name: rounded(value) for name, value in asdict(one).items()} for one in found.segments],
            "flags": {flag: rounded(share) for flag, share in found.flags.items()},
            "channel": found.channel,
        }
    return row


class ResultFile(AbstractContextManager["ResultFile"]):
    """Rows of earlier runs with the same model and options, and those that are added."""

    def __init__(self, path: Path, form: Form, settings: Settings, overwrite: bool) -> None:
        self._path, self._form, self._settings = path, form, settings
        self._partial = path.with_name(f"{path.name}.partial")
        for one in (path, self._partial):
            if one.exists() and not one.is_file():  # reading it may never end
                raise ShrikeError(f"{one}: expected a file or a new name; it is a folder, a device or a pipe")
        self._titles = [TITLES] if form == "csv" else []
        self._rows: dict[str, Row] = {}
        with explain_errors(self._partial):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self._partial, "ab+")  # noqa: SIM115 - closed by __exit__
        with ExitStack() as stack:
            stack.callback(self._file.close)
            self._lock()
            self._file.seek(0)
            began = b"" if overwrite else self._file.read()
            if not began:
                stack.callback(self._partial.unlink)
            whole = path.read_bytes() if path.exists() and not overwrite else b""
            for earlier, data in ((path, whole), (self._partial, began)):
                for row in self._read(earlier, data) if data else ():
                    self._rows[row["file"]] = row
            with explain_errors(self._partial):
                self._file.truncate(began.rfind(b"\n") + 1)  # a last line without its end was cut by a kill
                if not began:
                    self._write(self._titles)
            stack.pop_all()

    def row(self, path: Sound) -> Row | None:
        """Return the row of an unchanged file, unless it is an error."""
        row = self._rows.get(printable(os.fspath(path)))
        if row is None or row["error"] or (int(row["size"]), int(row["modified"])) != file_state(path):
            return None
        return row

    def add(self, result: Result) -> None:
        """Append the row of one file, and wait until it is on the disk."""
        row = make_row(result, self._settings)
        self._rows[row["file"]] = row
        self._write([row])

    def complete(self) -> None:
        """Replace the file by all rows, sorted by name."""
        with atomic_file(self._path) as temporary:
            rows = [self._rows[name] for name in sorted(self._rows)]
            temporary.write_text("".join(map(self._line, [*self._titles, *rows])), "utf-8")
        self._partial.unlink()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _lock(self) -> None:
        """Lock the partial file until it is closed, on systems and disks that can."""
        taken = ShrikeError(f"{self._path}: another scan writes this table; wait for its end, or give another name")
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken from None
            except OSError:
                pass  # a network disk without locks
        if not self._partial.exists() or not os.path.samestat(os.fstat(self._file.fileno()), self._partial.stat()):
            raise taken  # it was completed since it was opened

    # ---- lines

    def _write(self, rows: Sequence[Row]) -> None:
        """Append rows, and wait until they are on the disk."""
        self._file.write("".join(map(self._line, rows)).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def _line(self, row: Row) -> str:
        if self._form == "json":
            return json.dumps(row, ensure_ascii=False) + "\n"
        box = io.StringIO()
        csv.writer(box, lineterminator="\n").writerow([_cell(row[column]) for column in COLUMNS])
        return box.getvalue()

    def _read(self, path: Path, data: bytes) -> list[Row]:
        """Parse the rows of an earlier run, without a last line that has no end."""
        try:
            rows = self._parse(data.decode("utf-8", "replace").split("\n")[:-1])
        except (ValueError, csv.Error):
            raise ShrikeError(f"{path}: expected a table of this command; give another name, or --overwrite") from None
        for name, wanted in asdict(self._settings).items():
            if odd := [row[name] for row in rows if row[name] != wanted]:
                had = f"{path}: its rows have {name} {odd[0]!r}, expected {wanted!r}"
                raise ShrikeError(f"{had}; give another name, or --overwrite")
        return rows

    def _parse(self, lines: Sequence[str]) -> list[Row]:
        """Parse whole lines; ValueError or csv.Error where they are not those of a table."""
        rows: list[Row] = [json.loads(line) for line in lines] if self._form == "json" else []
        if self._form == "csv":
            header, *rows = csv.DictReader(lines, COLUMNS, strict=True)  # ValueError where there is none
            if header != TITLES:
                raise ValueError(header)
        if not lines or not all(isinstance(row, dict) and set(row) == set(COLUMNS) for row in rows):
            raise ValueError(rows)
        if any(isinstance(row[name], list | dict) for row in rows for name in ("file", "state", "size", "modified")):
            raise ValueError(rows)
        return rows


def _cell(value: Any) -> Any:
    """Format a value for CSV: `20.1-31.0 P 0.97; ...`, `quiet 0.4; ...`."""
    if isinstance(value, list):
        return "; ".join(f"{one['start']:.1f}-{one['end']:.1f} P {one['peak']:.2f}" for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{flag} {share:g}" for flag, share in value.items())
    return value
