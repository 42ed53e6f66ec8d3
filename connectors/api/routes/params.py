"""What several routes need: the ports, times with a zone, and cursors that only this service reads."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Query, Request
from pydantic import AfterValidator, BeforeValidator

from connectors.api.services import Services
from streams.ports.lookups import Place

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_NUMBER = re.compile(r"^[-+]?[\d.]+$")
_LOST_PLUS = re.compile(r"(?<=\d) (\d\d:?\d\d)$")


def services_of(request: Request) -> Services:
    """The ports of this application."""
    services: Services = request.app.state.services
    return services


Ports = Annotated[Services, Depends(services_of)]


def _with_zone(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("the time has no zone: add Z for UTC, or +03:00")
    try:
        return at.astimezone(UTC)
    except OverflowError:  # 9999-12-31T23:59-12:00 is outside Python's years
        raise ValueError("the time is too far away") from None


def _no_number(given: object) -> object:
    """pydantic would take a number for seconds since 1970: 2026 would be a time in 1970."""
    if isinstance(given, str):
        if _NUMBER.match(given):
            raise ValueError("write it as 2026-01-31T00:00:00Z")
        # A plus sign that was not escaped in the URL has become a blank.
        return _LOST_PLUS.sub(r"+\1", given)
    return given


At = Annotated[datetime, BeforeValidator(_no_number), AfterValidator(_with_zone)]
Probability = Annotated[float, Query(ge=0.0, le=1.0, allow_inf_nan=False)]


# Everything of this form is a valid place, so that no cursor of this form is refused later.
CURSOR = r"^-?[0-9]{1,17}\.([0-9a-f]{2}){1,2000}$"
_MOST_MICROS = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LEAST_MICROS = (datetime(1, 1, 2, tzinfo=UTC) - _EPOCH) // _MICROSECOND


def cursor_of(place: Place) -> str:
    """``place`` as a string for URLs."""
    micros = (place.created_at - _EPOCH) // _MICROSECOND
    return f"{micros}.{place.row_id.encode('utf-8', 'replace').hex()}"


def place_in(cursor: str) -> Place:
    """The inverse of `cursor_of`; ``cursor`` has the form CURSOR."""
    micros, _, row_id = cursor.partition(".")
    at = _EPOCH + min(max(int(micros), _LEAST_MICROS), _MOST_MICROS) * _MICROSECOND
    return Place(at, bytes.fromhex(row_id).decode("utf-8", "replace"))
