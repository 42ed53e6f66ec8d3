"""The result of reading any format: records, and what could not be read as one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.files.times import Dates
from streams.ports.files import Encoding, SourceFormat, Text

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


@dataclass(frozen=True, slots=True)
class FileRecord:
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
