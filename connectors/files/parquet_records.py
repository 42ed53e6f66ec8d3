"""Parquet records, read in batches of a row group, column by column: one bad value costs one record."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa

from connectors.files.records import Broken, FileRecord, Reading, Unreadable, whole
from connectors.files.texts import refused, text

_BATCH = 2_000
_ERRORS = (pa.ArrowException, OSError, ValueError, OverflowError)


def read(path: Path, reading: Reading, used: Collection[str]) -> Iterator[FileRecord | Broken]:
    """As `reading.read`. Values of other columns than ``used`` are None.

    Raises:
        RefusedError: it is not a Parquet file, or a part of it cannot be read.
    """
    number = 0
    names = [name for name in reading.columns if name in used]
    with _opened(path) as file:
        for batch in file.iter_batches(_BATCH, columns=names, use_threads=False):
            nothing = [None] * batch.num_rows
            columns = [_values(batch.column(name)) if name in names else nothing for name in reading.columns]
            for values in zip(*columns, strict=True):
                number += 1
                yield FileRecord(number, number, values)


def columns_of(path: Path) -> tuple[list[str], list[str]]:
    """The names of the columns of texts, numbers and times, and those of structures, or that are damaged.

    Raises:
        RefusedError: it is not a Parquet file, or two columns have one name.
    """
    found: tuple[list[str], list[str]] = ([], [])
    with _opened(path) as file:
        names = file.schema_arrow.names
        for field in file.schema_arrow:
            found[not _usable(file, field)].append(field.name)
    if again := next((name for name in names if names.count(name) > 1), None):
        raise refused("same names", reason="parquet", name=again)
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            yield file
    except _ERRORS as error:
        raise refused("no Parquet", reason="parquet", error=error) from error


def _usable(file: Any, field: pa.Field) -> bool:
    if pa.types.is_nested(field.type):
        return False
    try:
        next(file.iter_batches(1, columns=[field.name], use_threads=False), None)
    except _ERRORS:
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
    except _ERRORS:
        found = [_value(one) for one in column]
    form = next((form for is_kind, form in _FORMS if is_kind(kind)), None)
    if form is None:
        return found
    return [one if one is None or isinstance(one, Unreadable) else form(one) for one in found]


def _value(scalar: pa.Scalar) -> object:
    try:
        value: object = scalar.as_py()
        return value
    except _ERRORS as error:
        return Unreadable(text("damaged value", error=str(error)[:200]))


def _number(value: float) -> object:
    return whole(value) if isfinite(value) else None


def _decoded(value: bytes) -> object:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        return Unreadable(text("damaged value", error=str(error)[:200]))


_FORMS: tuple[tuple[Callable[[Any], bool], Callable[[Any], object]], ...] = (
    (pa.types.is_floating, _number),
    (pa.types.is_fixed_size_binary, bytes.hex),  # a UUID or a digest
    (pa.types.is_binary, _decoded),
    (pa.types.is_large_binary, _decoded),
    (pa.types.is_decimal, "{:f}".format),
)
