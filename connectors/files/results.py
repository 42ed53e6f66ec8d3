"""Writes labelled rows as files, block by block: csv, JSON lines and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import orjson
import pyarrow as pa

from streams.ports.files import FileFormat

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("line", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("row_id", pa.string()),
        ("id", pa.string()),
        ("text", pa.string()),
        ("ts", pa.timestamp("us", "UTC")),
        ("user_id", pa.string()),
        ("session_id", pa.string()),
        ("domain", pa.string()),
        ("label", pa.string()),
        ("confidence", pa.float64()),
        ("label_version", pa.string()),
        ("model", pa.string()),
        ("labeled_at", pa.timestamp("us", "UTC")),
        ("variants", pa.list_(pa.string())),
    ]
)
_GROUP_ROWS = 20_000
# A spreadsheet takes a cell that begins with one of these for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ResultWriter(Protocol):
    """Converts rows, dicts with the names of SCHEMA, to bytes; `close` returns the end of the file."""

    def write(self, rows: Sequence[dict[str, Any]]) -> bytes: ...

    def close(self) -> bytes: ...


class _Csv:
    """A missing value is empty, and variants are JSON. ``escape``: no cell is a formula."""

    def __init__(self, *, escape: bool) -> None:
        self._escape = escape
        self._begun = False

    def write(self, rows: Sequence[dict[str, Any]]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out)
        if not self._begun:
            writer.writerow(SCHEMA.names)
            self._begun = True
        for row in rows:
            writer.writerow([self._cell(row.get(name)) for name in SCHEMA.names])
        return out.getvalue().encode("utf-8", "replace")

    def close(self) -> bytes:
        return b"" if self._begun else self.write([])

    def _cell(self, value: Any) -> Any:
        if isinstance(value, str):
            return f"'{value}" if self._escape and value.startswith(_FORMULA) else value
        if isinstance(value, list):
            return orjson.dumps(value).decode()
        if value is not None and hasattr(value, "isoformat"):
            return value.isoformat()
        return value


class _Jsonl:
    def write(self, rows: Sequence[dict[str, Any]]) -> bytes:
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        return b"".join(
            orjson.dumps({name: row.get(name) for name in SCHEMA.names}, option=options) for row in rows
        )

    def close(self) -> bytes:
        return b""


class _Parquet:
    def __init__(self) -> None:
        from pyarrow import parquet

        self._out = io.BytesIO()
        self._writer = parquet.ParquetWriter(pa.PythonFile(self._out, mode="w"), SCHEMA)
        self._waiting: list[Any] = []
        self._rows = 0

    def write(self, rows: Sequence[dict[str, Any]]) -> bytes:
        self._waiting.append(pa.Table.from_pylist(list(rows), schema=SCHEMA))
        self._rows += len(rows)
        # Each row group costs readers time, and the writer memory until the end.
        if self._rows >= _GROUP_ROWS:
            self._write()
        return self._taken()

    def close(self) -> bytes:
        self._write()
        self._writer.close()
        return self._taken()

    def _taken(self) -> bytes:
        taken = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        return taken

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(pa.concat_tables(self._waiting), row_group_size=_GROUP_ROWS)
        self._waiting, self._rows = [], 0


def result_writer(format_: FileFormat, *, escape_formulas: bool = False) -> ResultWriter:
    """A writer. ``escape_formulas``: in csv, a cell that a spreadsheet would take for a formula gets an
    apostrophe before it.
    """
    makers: dict[FileFormat, Callable[[], ResultWriter]] = {
        "csv": lambda: _Csv(escape=escape_formulas),
        "jsonl": _Jsonl,
        "parquet": _Parquet,
    }
    return makers[format_]()
