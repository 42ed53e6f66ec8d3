"""What every kind of file is read as: records, and what could not be read as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from streams.ports.files import Encoding, FileFormat

# One column: no character of the file parts it.
ONE_COLUMN = "\x1f"


class Reading(BaseModel):
    """How a file is read. ``delimiter`` and ``header`` matter for CSV only; ``header``: the first record
    names the columns. ``columns``: their names, in order, none twice."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: FileFormat
    encoding: Encoding = "utf-8"
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    header: bool = True
    columns: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileRecord:
    """``number``: counted from 1 over all records, broken ones too. ``line``: the line of the file in which
    it begins (for Parquet: its number). ``values``: one for each column, None where there is none."""

    number: int
    line: int
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """What is no record. ``column``: the character in that line, from 1, where it is known. ``field``: the
    column of the table that is at fault, if one is. ``reason`` is short and countable."""

    number: int
    line: int
    column: int | None
    field: str | None
    reason: str
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For answers."""
        return {
            "row": self.number,
            "line": self.line,
            "column": self.column,
            "field": self.field,
            "reason": self.reason,
            "detail": self.detail,
        }
