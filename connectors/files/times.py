"""Parses times in files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, Literal

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SERIAL = datetime(1899, 12, 30)
# The range of DateTime64(6).
_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)

# How a column writes dates, where a value does not tell: the order of 03/04/2026, or numbers of days.
Dates = Literal["plain", "day-month-year", "month-day-year", "year-month-day", "excel-days"]
ORDERS: tuple[Dates, ...] = ("day-month-year", "month-day-year", "year-month-day")

_ZONES = {
    "MSK": 3,
    "МСК": 3,
    "CET": 1,
    "CEST": 2,
    "EET": 2,
    "EEST": 3,
}
# Elsewhere they mean other zones: CST is China's, too.
_AMERICAN = {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
_ZONES |= _AMERICAN
_CLOCK = (
    r"(?P<hour>\d{1,2})[:.](?P<minute>\d{2})(?:[:.](?P<second>\d{2})(?:[.,:](?P<part>\d{1,9}))?)?"
    r"(?:\s*(?P<half>[ap])\.?m\.?)?"
)
_OFFSET = r"[+-](?:\d{2}:?\d{2}|\d{1,2})"
# After an offset comes what only repeats it.
_ZONE = (
    rf"(?:\s*\(?(?P<zone>Z|{'|'.join(_ZONES)}|(?:UTC|GMT)(?:{_OFFSET})?|{_OFFSET})\)?"
    r"(?:\s*(?:\(.*\)|\[.*\]|[A-Z]{3,4}))?)?"
)
_TIME = rf"(?:(?:[\sT,:]|в |at )+{_CLOCK}{_ZONE})?"
_WEEKDAY, _MONTH = r"(?:[^\W\d]{2,12}[.,]*\s+)?", r"(?P<month>[^\W\d]{3,9})"
_YEAR = r"(?P<year>\d{4}|\d{2})(?:\s?г\.?|\.)?"
_NUMERIC = re.compile(rf"(\d{{1,4}})([./-])\s?(\d{{1,2}})\2\s?(\d{{1,4}})(?:\s?г\.?|\.)?{_TIME}", re.I)
_NAMED = (
    re.compile(rf"{_WEEKDAY}(?P<day>\d{{1,2}})[ .\-/]+{_MONTH}[ .,\-/]+{_YEAR}{_TIME}", re.I),
    re.compile(rf"{_WEEKDAY}{_MONTH}\.?\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?,?\s+{_YEAR}{_TIME}", re.I),
    # As C and the command `date` write it.
    re.compile(rf"{_WEEKDAY}{_MONTH}\s+(?P<day>\d{{1,2}})\s+{_CLOCK}{_ZONE}\s+{_YEAR}", re.I),
)
# After an offset the name only repeats it.
_AS_AMERICAN = re.compile(rf"(?<![-+\d]){_CLOCK}\s*\(?(?:{'|'.join(_AMERICAN)})\b", re.I)
_CLOCK_ONLY = re.compile(rf"{_CLOCK}{_ZONE}", re.I)
_MONTHS = {
    name: number
    for names in (
        "jan feb mar apr may jun jul aug sep oct nov dec",
        "янв фев мар апр мая июн июл авг сен окт ноя дек",
        "jän feb mär apr mai jun jul aug sep okt nov dez",
        "jan feb mrz apr май jun jul aug sep oct nov dec",
    )
    for number, name in enumerate(names.split(), 1)
}


def time_in(value: object, dates: Dates = "plain") -> datetime | None:
    """``value`` as a time in UTC; without a zone it is taken as UTC. None if it is no time, outside of
    1900-2299, or if nobody says which of its numbers is the day.

    Accepted are RFC 3339 and ISO 8601 and what is near them, `31.01.2026 10:00`, `1/31/2026 10:00 AM` by the
    order in ``dates``, months by name, `20260131`, and seconds to nanoseconds since 1970, from 2000 to 2033.
    """
    try:
        if (found := _time_in(value, dates)) is None:
            return None
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, ArithmeticError):
        return None
    return found if _FIRST <= found <= _LAST else None


def is_number(value: object) -> bool:
    """Whether it is written as a number that is not negative."""
    if isinstance(value, str):
        text = value.strip()
        return text.isascii() and text.replace(",", ".", 1).replace(".", "", 1).isdigit()
    return isinstance(value, int | float)


def is_clock(value: object) -> bool:
    """Whether it is a time of day without a date."""
    return bool(_CLOCK_ONLY.fullmatch(str(value).strip())) and ":" in str(value)


def is_american(value: object) -> bool:
    """Whether its zone is a name that is taken as that of a zone of America, and may be another."""
    return isinstance(value, str) and "T" in value.upper() and _AS_AMERICAN.search(value) is not None


def order_told(values: Iterable[Any]) -> tuple[set[Dates], bool, bool]:
    """The orders of day and month that all of ``values`` allow, whether the order matters to any of them,
    and whether years have two digits.
    """
    allowed, matters, short = set(ORDERS), False, False
    for value in values:
        found = _NUMERIC.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None or len(found[1]) > 2:
            continue
        first, middle, last = int(found[1]), int(found[3]), int(found[4])
        matters = True
        short = short or len(found[4]) == 2
        fits = {
            "day-month-year": first <= 31 and middle <= 12,
            "month-day-year": first <= 12 and middle <= 31,
            "year-month-day": len(found[1]) == 2 and len(found[4]) == 2 and middle <= 12 and last <= 31,
        }
        allowed &= {order for order in ORDERS if fits[order]}
        if found[2] == "." and "day-month-year" in allowed:
            allowed &= {"day-month-year"}  # nobody writes 01.31.2026
    return allowed, matters, short


def _time_in(value: object, dates: Dates) -> datetime | None:
    if isinstance(value, str):
        text = value.strip()
        # As most files have it. Any character may stand between day and time, so it is checked.
        if text[8:9] == "T" or (text[4:5] == "-" and text[7:8] == "-" and text[10:11] in ("", " ", "T")):
            try:
                return datetime.fromisoformat(text)
            except ValueError:
                pass
        # As .NET writes it in JSON, and as a spreadsheet marks a text.
        text = text.removeprefix("/Date(").removesuffix(")/").removeprefix("'")
        return _number(text, dates) if is_number(text) else _written(text, dates)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _number(repr(value) if isinstance(value, float) else str(value), dates)


def _number(text: str, dates: Dates) -> datetime | None:
    whole, _, part = text.strip().replace(",", ".").partition(".")
    if not whole.isdigit():
        return None
    if not part and len(whole) in (8, 12, 14) and whole[:2] in ("19", "20"):
        return datetime.fromisoformat(f"{whole[:8]}T{whole[8:]}".rstrip("T"))
    if dates == "excel-days" and 36_526 <= int(whole) <= 73_050:  # 2000 to 2100
        return _SERIAL + timedelta(seconds=round(float(f"{whole}.{part}0") * 86_400))
    if len(whole) > 19:
        return None
    micros = int(whole) * 10**6 + int(part[:6].ljust(6, "0"))
    for divisor in (1, 10**3, 10**6, 10**9):
        if 946_684_800 * 10**6 <= micros // divisor <= 2 * 10**15:
            return _EPOCH + timedelta(microseconds=micros // divisor)
    return None


def _written(text: str, dates: Dates) -> datetime | None:
    if found := _NUMERIC.fullmatch(text):
        first, mark, middle, last = found.group(1, 2, 3, 4)
        order = "day-month-year" if mark == "." and dates == "plain" else dates
        if len(first) == 4 or order == "year-month-day":
            return _made(first, middle, last, found)
        if order == "day-month-year":
            return _made(last, middle, first, found)
        return _made(last, first, middle, found) if order == "month-day-year" else None
    found = next(filter(None, (form.fullmatch(text) for form in _NAMED)), None)
    month = _MONTHS.get(found["month"][:3].lower()) if found else None
    return _made(found["year"], str(month), found["day"], found) if found and month else None


def _made(year: str, month: str, day: str, found: re.Match[str]) -> datetime | None:
    hour, minute, second, part, half, zone = found.group("hour", "minute", "second", "part", "half", "zone")
    hours = int(hour or 0)
    if len(year) not in (2, 4) or len(month) > 2 or len(day) > 2 or (half and not 1 <= hours <= 12):
        return None
    if half:
        hours = hours % 12 + (12 if half.lower() == "p" else 0)
    return datetime(
        int(f"20{year}"[-4:]),
        int(month),
        int(day),
        hours,
        int(minute or 0),
        int(second or 0),
        int((part or "0")[:6].ljust(6, "0")),
        _zone(zone.upper()) if zone else None,
    )


def _zone(name: str) -> timezone:
    if name in _ZONES:
        return timezone(timedelta(hours=_ZONES[name]))
    digits = name.removeprefix("UTC").removeprefix("GMT").replace(":", "")
    if digits in ("", "Z"):
        return UTC
    hours, minutes = int(digits[1:3]), int(digits[3:] or 0)
    return timezone((-1 if digits[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes))
