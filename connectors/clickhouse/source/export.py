"""Logs as files: csv, JSON lines and Parquet, written block by block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import orjson
import pyarrow as pa

Format = Literal["csv", "jsonl", "parquet"]

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("domain", pa.string()),
        ("ts", pa.timestamp("us", "UTC")),
        ("user_id", pa.string()),
    ]
)


class Writer(Protocol):
    """Writes Arrow tables of SCHEMA to an open file; `close` writes the end of the file."""

    def write(self, block: Any) -> None: ...

    def close(self) -> None: ...


class _Csv:
    def __init__(self, file: Any) -> None:
        from pyarrow import csv

        self._writer = csv.CSVWriter(file, SCHEMA)

    def write(self, block: Any) -> None:
        self._writer.write_table(block)

    def close(self) -> None:
        self._writer.close()


class _Jsonl:
    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, block: Any) -> None:
        options = orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z
        for piece in block.to_batches(max_chunksize=10_000):
            self._file.write(b"".join(orjson.dumps(row, option=options) for row in piece.to_pylist()))

    def close(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: Any) -> None:
        from pyarrow import parquet

        self._writer = parquet.ParquetWriter(file, SCHEMA)

    def write(self, block: Any) -> None:
        self._writer.write_table(block)

    def close(self) -> None:
        self._writer.close()


WRITERS: dict[str, Callable[[Any], Writer]] = {
    "csv": _Csv,
    "jsonl": _Jsonl,
    "parquet": _Parquet,
}
