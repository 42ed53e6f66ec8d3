"""Parquet records, read in batches of a row group, column by column: one bad value costs one record."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.files.records import Broken, FileRecord, Reading, Unreadable
from streams.core.errors import RefusedError

_BATCH = 2_000


def read(path: Path, reading: Reading, used: Collection[str] | None = None) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. Values of other columns than ``used`` are None, if it is given.

    Raises:
        RefusedError: it is not a Parquet file, or a part of it cannot be read.
    """
    from pyarrow import parquet

    number = 0
    names = [name for name in reading.columns if used is None or name in used]
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
                nothing = [None] * batch.num_rows
                columns = [
                    _values(batch.column(name)) if name in names else nothing for name in reading.columns
                ]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield FileRecord(number, number, values)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise RefusedError(f"not a whole Parquet file: {error}", reason="parquet") from error


def columns_of(path: Path) -> tuple[list[str], list[str]]:
    """The names of the columns of texts, numbers and times, and those of structures, or that are damaged.

    Raises:
        RefusedError: it is not a Parquet file, or two columns have one name.
    """
    from pyarrow import parquet

    found: tuple[list[str], list[str]] = ([], [])
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            names = file.schema_arrow.names
            for field in file.schema_arrow:
                found[not _usable(file, field)].append(field.name)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RefusedError(f"not a whole Parquet file: {error}", reason="parquet") from error
    if again := next((name for name in names if names.count(name) > 1), None):
        raise RefusedError(f"two columns are called {again!r}: rename one of them", reason="parquet")
    return found


def _usable(file: Any, field: pa.Field) -> bool:
    if pa.types.is_nested(field.type):
        return False
    try:
        next(file.iter_batches(1, columns=[field.name], use_threads=False), None)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def _values(column: pa.Array) -> list[object]:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    kind = column.type
    try:
        if pa.types.is_timestamp(kind):
            # Of any zone: the instant is stored in UTC, and the zone's name may be unknown here.
            unit = "us" if kind.unit == "ns" else kind.unit
            column = column.cast(pa.timestamp(unit, "UTC" if kind.tz else None), safe=False)
        found: list[object] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        found = [_value(one) for one in column]
    if pa.types.is_floating(kind):
        # pandas makes a column of whole numbers with gaps one of fractions.
        return [_number(one) if isinstance(one, float) else one for one in found]
    if pa.types.is_fixed_size_binary(kind):
        return [one.hex() if isinstance(one, bytes) else one for one in found]  # a UUID or a digest
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [_decoded(one) if isinstance(one, bytes) else one for one in found]
    if pa.types.is_decimal(kind):
        return [f"{one:f}" if one is not None and not isinstance(one, Unreadable) else one for one in found]
    return found


def _value(scalar: pa.Scalar) -> object:
    try:
        value: object = scalar.as_py()
        return value
    except (ValueError, OverflowError, pa.ArrowException) as error:
        return Unreadable(str(error)[:200])


def _number(value: float) -> object:
    if not isfinite(value):
        return None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _decoded(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        return Unreadable(str(error)[:200])
