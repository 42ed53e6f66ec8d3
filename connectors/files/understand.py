"""Detects what a file is: its format, how to read it, which column is what."""

from __future__ import annotations

import codecs
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from connectors.files import parquet_records
from connectors.files.dialect import delimiter_of, has_header, sample_of, unique_names
from connectors.files.encoding import encoding_of, utf16_of
from connectors.files.lines import lines
from connectors.files.mapping import known_names, suggested
from connectors.files.reading import read
from connectors.files.records import FileRecord, Reading
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.ports.files import NO_FILE_OF_ROWS, Encoding, FileFormat

_SAMPLE = 200
_KEYS_FROM = 1_000
_MOST_COLUMNS = 1_000
_OTHERS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xd0\xcf\x11\xe0", "an old Office file"),
    (b"%PDF", "a PDF file"),
    (b"{\\rtf", "an RTF file"),
    (b"<", "a page or an XML file"),
    (b"[", "a JSON array, not JSON lines: write one object a line"),
)


@dataclass(frozen=True)
class Chosen:
    """What the client specifies of the reading, instead of detecting it."""

    encoding: Encoding | None = None
    delimiter: str | None = None
    header: bool | None = None


@dataclass
class Understood:
    """``mapping``: part and column, as suggested. ``sample``: the first records."""

    reading: Reading
    mapping: dict[str, str]
    sample: list[FileRecord] = field(default_factory=list)


def understand(path: Path, settings: Settings, chosen: Chosen | None = None) -> Understood:
    """Analyse the file's beginning.

    Raises:
        RefusedError: reason `format`: not a file of rows (HTTP 415); `empty`, `parquet`: one without rows.
        OSError.
    """
    chosen = chosen or Chosen()
    format_ = _format_of(path)
    if format_ == "parquet":
        reading = Reading(format="parquet", columns=parquet_records.columns_of(path))
    else:
        encoding = chosen.encoding or encoding_of(path)
        if format_ == "text":
            format_ = _csv_or_jsonl(path, encoding)
        reading = _jsonl(path, encoding) if format_ == "jsonl" else _csv(path, encoding, settings, chosen)
    if not reading.columns:
        raise RefusedError("the file holds no rows", reason="empty")
    if len(reading.columns) > _MOST_COLUMNS:
        raise RefusedError(f"{len(reading.columns)} columns are too many", reason="columns")
    records = islice(read(path, reading), _SAMPLE)
    sample = [record for record in records if isinstance(record, FileRecord)]
    named = reading.format != "csv" or reading.header
    mapping = suggested(reading.columns, [record.values for record in sample], settings, named=named)
    return Understood(reading, mapping, sample)


def _format_of(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4096)
    if not start.strip():
        raise RefusedError("the file is empty", reason="empty")
    if start.startswith(b"PAR1"):
        return "parquet"
    if utf16_of(start) is not None:
        return "text"
    begin = start.removeprefix(codecs.BOM_UTF8).lstrip()
    for magic, what in _OTHERS:
        if begin.startswith(magic) and (magic != b"[" or _is_array(begin)):
            raise RefusedError(f"this is {what}", reason=NO_FILE_OF_ROWS)
    signs = sum(byte < 9 or 13 < byte < 32 for byte in start)
    if signs > 0.02 * len(start):
        raise RefusedError("this is no text and no Parquet file", reason=NO_FILE_OF_ROWS)
    return "text"


def _is_array(begin: bytes) -> bool:
    return begin[1:].lstrip()[:1] in (b"{", b"]", b"[", b"")


def _csv_or_jsonl(path: Path, encoding: str) -> FileFormat:
    """By the first lines: whether most of them are JSON objects."""
    first = [line.text for line in islice(lines(path, encoding), 50) if line.text.strip()]
    objects = sum(_is_object(text) for text in first)
    return "jsonl" if objects * 2 >= len(first) else "csv"


def _is_object(text: str) -> bool:
    try:
        return isinstance(orjson.loads(text.lstrip("\ufeff")), dict)
    except (orjson.JSONDecodeError, UnicodeEncodeError):
        return False


def _jsonl(path: Path, encoding: Encoding) -> Reading:
    keys: dict[str, Any] = {}
    for line in islice(lines(path, encoding), _KEYS_FROM):
        if _is_object(line.text):
            keys |= dict.fromkeys(orjson.loads(line.text.lstrip("\ufeff")))
    return Reading(format="jsonl", encoding=encoding, columns=tuple(keys))


def _csv(path: Path, encoding: Encoding, settings: Settings, chosen: Chosen) -> Reading:
    names = known_names(settings)
    delimiter = chosen.delimiter or delimiter_of(path, encoding, names)
    rows = sample_of(path, encoding, delimiter)
    if not rows:
        return Reading(format="csv", encoding=encoding, delimiter=delimiter)
    header = chosen.header if chosen.header is not None else has_header(rows, names)
    if header:
        columns = unique_names(rows[0])
    else:
        widths = [len(row) for row in rows]
        width = max(set(widths), key=lambda one: (widths.count(one), one))
        columns = tuple(f"column{number}" for number in range(1, width + 1))
    return Reading(format="csv", encoding=encoding, delimiter=delimiter, header=header, columns=columns)
