"""Parses times in files."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The range of DateTime64(6).
FIRST, LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)
_NUMBER = re.compile(r"^\d{9,19}(?:\.\d+)?$")
_RUSSIAN = re.compile(
    r"^(\d{1,2})\.(\d{1,2})\.(\d{4})(?:[ T,]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,6}))?)?)?$"
)


def time_in(value: object) -> datetime | None:
    """``value`` as a time in UTC; without a zone it is taken as UTC. None if it is no time or outside of
    1900-2299.

    Accepted are RFC 3339 and ISO 8601 (`2026-01-31 10:00:00`, `2026-01-31T10:00:00.5+03:00`, `2026-01-31`),
    `31.01.2026 10:00:00`, and seconds, milliseconds, microseconds or nanoseconds since 1970.
    """
    try:
        found = _time_in(value)
    except (ValueError, OverflowError):
        return None
    if found is None:
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return found if FIRST <= found <= LAST else None


def _time_in(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _since_1970(value) if value >= 10**8 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if _NUMBER.match(text):
        return _since_1970(int(text)) if text.isdigit() else _since_1970(float(text))
    if len(text) < 8 or (text.isdigit() and len(text) != 8):
        return None
    if found := _RUSSIAN.match(text):
        day, month, year, hour, minute, second, part = found.groups()
        micros = int((part or "0").ljust(6, "0"))
        return datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros
        )
    return datetime.fromisoformat(text.replace(",", ".") if "," in text else text)


def _since_1970(number: float) -> datetime:
    """Seconds, milliseconds, microseconds or nanoseconds, distinguished by the size of present-day values."""
    for least, a_second in ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3)):
        if number >= least:
            return _EPOCH + timedelta(microseconds=int(number) * 10**6 // a_second)
    return _EPOCH + timedelta(microseconds=round(number * 10**6))
