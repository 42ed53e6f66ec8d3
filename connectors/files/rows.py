"""From a file's records to rows: apply the mapping, clean the text, parse the time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from connectors.files.mapping import NULLS, Columns, is_null
from connectors.files.reading import read
from connectors.files.records import Broken, FileRecord, Reading, Unreadable, text_of
from connectors.files.texts import text
from connectors.files.times import is_american, time_in
from streams.core.messages import Row
from streams.core.text import clean, why_skipped

ROW_ID = "upload"
_OLD = datetime(2000, 1, 1, tzinfo=UTC)


class FileRow(NamedTuple):
    """``row``: None if the text is too short to label; ``skipped`` has the reason. ``id``: the value of the
    file's id column, if one is mapped.
    """

    number: int
    line: int
    row: Row | None
    skipped: str | None
    id: str | None


@dataclass
class Rows:
    """The rows of one file under one mapping. ``notes``: how often something doubtful occurred so far.

    ``digest``: part of the ids, `upload:<digest>:<n>`. ``time``: when the file was read, also used for rows
    without a time of their own. ``least_bytes`` as in `why_skipped`. ``quoting``: what is said of a broken
    record may quote its value.
    """

    path: Path
    reading: Reading
    columns: Columns
    _: KW_ONLY
    digest: str
    time: datetime
    least_bytes: int
    quoting: bool = True
    notes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._late = self.time + timedelta(days=2)
        self._typed = self.reading.format not in ("csv", "xlsx")
        self._at = {
            role: self.reading.columns.index(name)
            for role, name in (*self.columns.model_dump().items(), ("clock", self.reading.clock))
            if name is not None
        }

    def __iter__(self) -> Iterator[FileRow | Broken]:
        """All of them, in order.

        Raises:
            OSError, RefusedError: as `reading.read`.
        """
        used = {self.reading.columns[at] for at in self._at.values()}
        for record in read(self.path, self.reading, used):
            yield record if isinstance(record, Broken) else self.of(record)

    def of(self, record: FileRecord) -> FileRow | Broken:
        """The row of one record."""
        values = record.values
        if self._typed and (wrong := self._unusable(values)) is not None:
            value, name = values[wrong], self.reading.columns[wrong]
            detail = text("structure")
            if isinstance(value, Unreadable):
                detail = value.detail if self.quoting else text("damaged value", error="…")
            return Broken(record.number, record.line, None, name, "value", detail)
        created_at = self.time
        if (place := self._at.get("timestamp")) is not None:
            value = self._time_of(values, place)
            found = time_in(value, self.reading.dates)
            if found is None:
                return self._no_time(record, place)
            created_at = found
            if is_american(value):
                self.notes["zones"] += 1
            if not _OLD < found < self._late:
                self.notes["times"] += 1
        id_ = self._text(values, "id")
        raw = self._text(values, "text")
        cleaned = clean(raw or "")
        if "\ufffd" in cleaned:
            self.notes["replaced"] += 1
        why = why_skipped(None if raw is None else raw.encode("utf-8", "replace"), cleaned, self.least_bytes)
        if why is not None:
            return FileRow(record.number, record.line, None, why, id_)
        row = Row.made(
            row_id=f"{ROW_ID}:{self.digest}:{record.number}",
            text=cleaned,
            created_at=created_at,
            user_id=self._text(values, "user"),
            session_id=self._text(values, "session"),
            source_domain=self._text(values, "domain"),
            polled_at=self.time,
        )
        return FileRow(record.number, record.line, row, None, id_)

    def _text(self, values: tuple[Any, ...], role: str) -> str | None:
        place = self._at.get(role)
        value = values[place] if place is not None else None
        if type(value) is not str:
            return None if value is None else text_of(value)
        if value in NULLS:
            if value:
                self.notes["nulls"] += 1
            return value if role == "text" and not value else None
        if role == "text":
            return value
        return (text_of(value) if value.startswith("=") else value).strip() or None

    def _time_of(self, values: tuple[Any, ...], place: int) -> Any:
        value = values[place]
        if (at := self._at.get("clock")) is not None and (clock := values[at]) not in NULLS:
            value = f"{text_of(value).strip()} {text_of(clock).strip()}"
        return value

    def _unusable(self, values: tuple[Any, ...]) -> int | None:
        """The column of a value that cannot be used as what it is."""
        if isinstance(values[self._at["text"]], dict | list):
            return self._at["text"]
        places = (place for role, place in self._at.items() if role not in ("timestamp", "clock"))
        return next((place for place in places if isinstance(values[place], Unreadable)), None)

    def _no_time(self, record: FileRecord, place: int) -> Broken:
        value = record.values[place]
        name = self.columns.timestamp
        code = "time missing" if is_null(value) else "time unreadable"
        what = text(code, value=text_of(value)[:80] if self.quoting else "…")
        column = None
        if self.reading.format == "csv":
            column = _column_of(record, place, self.reading.delimiter)
        return Broken(record.number, record.line, column, name, "timestamp", what)


def _column_of(record: FileRecord, place: int, delimiter: str) -> int | None:
    """An approximation: where the field begins if no field before it is quoted or contains a line end."""
    before = [value if value is not None else r"\N" for value in record.values[:place]]
    if any('"' in value or delimiter in value or "\n" in value or "\r" in value for value in before):
        return None
    return sum(len(value) + 1 for value in before) + 1
