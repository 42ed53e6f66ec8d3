"""Reads a file of any of the formats."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from connectors.files import csv_records, json_records, parquet_records, sheets
from connectors.files.records import Broken, FileRecord, Reading
from streams.ports.files import SourceFormat

_READERS: dict[SourceFormat, Callable[[Path, Reading], Iterator[FileRecord | Broken]]] = {
    "csv": csv_records.read,
    "json": json_records.read,
    "jsonl": json_records.read,
    "parquet": parquet_records.read,
    "xlsx": sheets.read,
}


def read(path: Path, reading: Reading) -> Iterator[FileRecord | Broken]:
    """Every record of the file, in order, with some kilobytes in memory at a time.

    Raises:
        OSError: it cannot be read. RefusedError: it is no file of this format.
    """
    return _READERS[reading.format](path, reading)
