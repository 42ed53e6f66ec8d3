"""Results as files: each format holds what it was given, block by block."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from connectors.files.results import SCHEMA, result_writer
from streams.ports.files import FileFormat

ROWS: list[dict[str, Any]] = [
    {
        "row": 1,
        "line": 2,
        "status": "labeled",
        "row_id": "upload:d:1",
        "text": '=cmd|"/c calc"!A1',
        "ts": datetime(2026, 1, 1, tzinfo=UTC),
        "label": "other",
        "confidence": 0.5,
        "variants": ["а", "б"],
    },
    {"row": 2, "line": 3, "status": "broken", "reason": "2 fields where 3 are expected"},
]


def written(format_: FileFormat, *blocks: list[dict[str, Any]], escape: bool = False) -> bytes:
    writer = result_writer(format_, escape_formulas=escape)
    return b"".join([*(writer.write(block) for block in blocks), writer.close()])


def test_csv() -> None:
    found = list(csv.DictReader(io.StringIO(written("csv", ROWS[:1], ROWS[1:]).decode(), newline="")))
    assert [row["row"] for row in found] == ["1", "2"]
    assert found[0]["text"] == ROWS[0]["text"]
    assert json.loads(found[0]["variants"]) == ["а", "б"]
    assert found[0]["ts"] == "2026-01-01T00:00:00+00:00"
    assert found[1]["label"] == ""


def test_csv_without_formulas() -> None:
    rows = [{**ROWS[0], "text": text} for text in ("=1+1", "+7 900", "-1", "@a", "\tx", "a=b")]
    found = list(csv.DictReader(io.StringIO(written("csv", rows, escape=True).decode(), newline="")))
    assert [row["text"] for row in found] == ["'=1+1", "'+7 900", "'-1", "'@a", "'\tx", "a=b"]


def test_json_lines() -> None:
    found = [json.loads(line) for line in written("jsonl", ROWS[:1], ROWS[1:]).splitlines()]
    assert [list(row) for row in found] == [SCHEMA.names] * 2
    assert found[0]["ts"] == "2026-01-01T00:00:00Z"
    assert found[1]["variants"] is None


def test_parquet() -> None:
    table = parquet.read_table(pa.BufferReader(written("parquet", ROWS[:1], ROWS[1:])))
    assert table.schema.equals(SCHEMA)
    assert table.to_pylist()[0]["variants"] == ["а", "б"]
    assert table.column("status").to_pylist() == ["labeled", "broken"]


def test_no_rows_are_a_whole_file_too() -> None:
    assert written("csv").decode().strip().split(",") == SCHEMA.names
    assert written("jsonl") == b""
    assert parquet.read_table(pa.BufferReader(written("parquet"))).num_rows == 0
