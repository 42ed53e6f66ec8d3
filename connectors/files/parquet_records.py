"""Parquet records, read in batches of a row group."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from connectors.files.records import Broken, FileRecord, Reading
from streams.core.errors import RefusedError

_BATCH = 2_000


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """As `reading.read`.

    Raises:
        RefusedError: it is not a Parquet file, or a part of it cannot be read.
    """
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH, columns=list(reading.columns), use_threads=False):
                columns = [_values(batch.column(name)) for name in reading.columns]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield FileRecord(number, number, values)
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(f"not a whole Parquet file: {error}", reason="parquet") from error


def columns_of(path: Path) -> tuple[str, ...]:
    """The names of the columns that are no structs or lists.

    Raises:
        RefusedError: it is not a Parquet file.
    """
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise RefusedError(f"not a whole Parquet file: {error}", reason="parquet") from error
    return tuple(field.name for field in schema if not pa.types.is_nested(field.type))


def _values(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    found: list[object] = column.to_pylist()
    return found
