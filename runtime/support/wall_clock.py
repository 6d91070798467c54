"""Wall-clock time as ISO 8601 in UTC.

utc()                  # 2026-11-26T07:44:49.851Z
utc_compact()          # 20261126T074449Z, for names of files
"""

from datetime import datetime, timezone


def utc(seconds: float | None = None) -> str:
    """Return a time with milliseconds. `seconds`: since 1970, by default now."""
    return _moment(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def utc_seconds() -> str:
    """Return the present time to the second."""
    return _moment(None).isoformat(timespec="seconds").replace("+00:00", "Z")


def utc_compact(seconds: float | None = None) -> str:
    """Return a time without separators, to the second."""
    return _moment(seconds).strftime("%Y%m%dT%H%M%SZ")


def _moment(seconds: float | None) -> datetime:
    return datetime.now(timezone.utc) if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
