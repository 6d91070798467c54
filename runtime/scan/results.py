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
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal

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
TAKEN = "another scan writes this table; wait for its end, or give another name"
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
            _check_regular(one)
        self._titles = [TITLES] if form == "csv" else []
        self._rows: dict[str, Row] = {}
        with _locked(self._partial) as began:
            for earlier in () if overwrite else (path, self._partial)[: 1 + began]:
                for row in self._read(earlier):
                    self._rows[row["file"]] = row
            with atomic_file(self._partial) as temporary:  # without a cut last line
                temporary.write_text("".join(map(self._line, [*self._titles, *self._rows.values()])), "utf-8")
                self._file = open(temporary, "a", encoding="utf-8", newline="")  # noqa: SIM115 - closed by __exit__
                _lock(self._file, self._partial)

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
        self._file.write(self._line(row))
        self._file.flush()
        os.fsync(self._file.fileno())

    def complete(self) -> None:
        """Replace the file by all rows, sorted by name."""
        with atomic_file(self._path) as temporary:
            rows = [self._rows[name] for name in sorted(self._rows)]
            temporary.write_text("".join(map(self._line, [*self._titles, *rows])), "utf-8")
        self._partial.unlink()

    def __exit__(self, *_: object) -> None:
        self._file.close()

    # ---- lines

    def _line(self, row: Row) -> str:
        if self._form == "json":
            return json.dumps(row, ensure_ascii=False) + "\n"
        box = io.StringIO()
        csv.writer(box, lineterminator="\n").writerow([_cell(row[column]) for column in COLUMNS])
        return box.getvalue()

    def _read(self, path: Path) -> list[Row]:
        """Read the rows of an earlier run; a last line without its end was cut by a kill."""
        try:
            lines = path.read_bytes().decode("utf-8", "replace").split("\n")
        except FileNotFoundError:
            return []
        try:
            rows = self._parse(lines[:-1])
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
        return rows


@contextmanager
def _locked(partial: Path) -> Iterator[bool]:
    """Lock the partial file of a table, and yield whether it holds rows; one that held none goes if that fails."""
    with explain_errors(partial):
        partial.parent.mkdir(parents=True, exist_ok=True)
        file = open(partial, "ab")  # noqa: SIM115 - closed below
    with file:
        _lock(file, partial)
        if not partial.exists() or not os.path.samestat(os.fstat(file.fileno()), partial.stat()):
            raise ShrikeError(f"{partial.with_suffix('')}: {TAKEN}")  # it was replaced since it was opened
        began = os.fstat(file.fileno()).st_size > 0
        try:
            yield began
        except BaseException:
            if not began:
                partial.unlink(missing_ok=True)
            raise


def _lock(file: IO[Any], partial: Path) -> None:
    """Lock an open file until it is closed, on systems and disks that can."""
    with suppress(ImportError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ShrikeError(f"{partial.with_suffix('')}: {TAKEN}") from None
        except OSError:
            pass  # a network disk without locks


def _check_regular(path: Path) -> None:
    """Refuse a device or pipe: reading it may never end, and the rename at the end would replace it."""
    if path.exists() and not path.is_file():
        raise ShrikeError(f"{path}: expected a file or a new name; it is a folder, a device or a pipe")


def _cell(value: Any) -> Any:
    """Format a value for CSV: `20.1-31.0 P 0.97; ...`, `quiet 0.4; ...`."""
    if isinstance(value, list):
        return "; ".join(f"{one['start']:.1f}-{one['end']:.1f} P {one['peak']:.2f}" for one in value)
    if isinstance(value, dict):
        return "; ".join(f"{flag} {share:g}" for flag, share in value.items())
    return value
