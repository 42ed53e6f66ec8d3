"""Reads a file of any of the formats."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from connectors.files import csv_records, json_records, parquet_records, sheets
from connectors.files.records import Broken, FileRecord, Reading
from streams.ports.files import SourceFormat

_READERS: dict[SourceFormat, Callable[[Path, Reading], Iterator[FileRecord | Broken]]] = {
    "csv": csv_records.read,
    "json": json_records.read,
    "jsonl": json_records.read,
    "xlsx": sheets.read,
}


def read(path: Path, reading: Reading, used: Collection[str] = ()) -> Iterator[FileRecord | Broken]:
    """Every record of the file, in order, with some kilobytes in memory at a time.

    ``used``: the columns whose values are needed, if not all of them.

    Raises:
        OSError: it cannot be read. RefusedError: it is no file of this format.
    """
    if reading.format == "parquet":
        return parquet_records.read(path, reading, used or reading.columns)
    return _READERS[reading.format](path, reading)
