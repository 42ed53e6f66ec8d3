"""Points in time as microseconds since 1970, UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def moment(micros: int) -> datetime:
    """A point in time."""
    return _EPOCH + timedelta(microseconds=micros)


def micros_of(at: datetime) -> int:
    """The inverse of `moment`; exact, which a float of seconds would not be."""
    return (at - _EPOCH) // timedelta(microseconds=1)
