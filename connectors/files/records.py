"""The result of reading any format: records, and what could not be read as one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from connectors.files.times import Dates
from streams.ports.files import Encoding, SourceFormat, Text, text_in

# A single column: this character separates nothing in a file.
ONE_COLUMN = "\x1f"


# A quote in quotes is doubled, or has a backslash before it; blanks before a quote are left out; or, as
# databases write TSV, a quote is a letter, and a backslash begins an escape.
Quoting = Literal["doubled", "backslash", "spaced", "escaped"]


class Reading(BaseModel):
    """How a file is read. ``delimiter`` and ``quoting`` apply to CSV, ``header`` and ``begin`` to CSV and
    workbooks; ``header``: the first record names the columns; ``begin``: the line of the first record.
    ``columns``: their names, in order, none twice. ``sheet``: of a workbook, or the place of the rows in a
    JSON document, as jq writes it. ``clock``: the column with the time of day, if dates have none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: SourceFormat
    encoding: Encoding = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    header: bool = True
    columns: tuple[str, ...] = ()
    quoting: Quoting = "doubled"
    begin: int = 1
    sheet: str | None = None
    dates: Dates = "plain"
    clock: str | None = None


class FileRecord(NamedTuple):
    """``number``: counted from 1 over all records, broken ones included. ``line``: the line where it begins
    (in Parquet: its number). ``values``: one for each column, None if it is missing.
    """

    number: int
    line: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A value that is damaged: it costs its record, if its column is used."""

    detail: Text


@dataclass(frozen=True, slots=True)
class Broken:
    """A record that cannot be read. ``column``: the character in that line, from 1, if known. ``field``: the
    column of the table with the error, if known. ``reason`` is short and countable.
    """

    number: int
    line: int
    column: int | None
    field: str | None
    reason: str
    detail: Text

    def as_dict(self) -> dict[str, Any]:
        """For the API."""
        found = asdict(self)
        return {"row": found.pop("number"), **found}


def whole(value: float) -> float:
    """Without a fraction that is none: programs write whole numbers so, beside gaps or in all cells."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def text_of(value: Any) -> str:
    """A value as text that UTF-8 can encode."""
    if isinstance(value, str):
        # ="007" is written so that a spreadsheet takes it for no number.
        return value[2:-1] if value.startswith('="') and value.endswith('"') else value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Unreadable):
        return f"\ufffd ({text_in(value.detail)})"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
