"""The present time as ISO 8601 in UTC.

utc()                  # 2026-11-26T07:44:49.851Z
utc_seconds()          # 2026-11-26T07:44:49Z
utc_compact()          # 20261126T074449Z, for names of files
"""

from datetime import datetime, timezone


def utc(unit: str = "milliseconds") -> str:
    return datetime.now(timezone.utc).isoformat(timespec=unit).replace("+00:00", "Z")


def utc_seconds() -> str:
    return utc("seconds")


def utc_compact() -> str:
    return utc_seconds().replace("-", "").replace(":", "")
