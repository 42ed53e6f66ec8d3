"""Rows that were erased are not stored again, wherever they come from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from connectors.clickhouse.sink.batch import Batch
from streams.core.times import micros_of
from streams.privacy.erasure import ErasureList


def without_erased(batch: Batch, erased: ErasureList) -> Batch:
    """``batch`` without the rows that ``erased`` covers; itself if it covers none of them."""
    if erased.newest is None or not len(batch):
        return batch
    if "payload" in batch.rows.column_names:
        gone = {at for at, one in enumerate(_letters(batch.rows)) if erased.covers(*one)}
    else:
        gone = {at for at, one in _old_rows(batch.rows, erased.newest) if erased.covers(*one)}
    if not gone:
        return batch
    kept = [at for at in range(len(batch)) if at not in gone]
    return Batch(batch.rows.take(pa.array(kept, pa.int64())), [batch.records[at] for at in kept])


def _old_rows(rows: Any, newest: int) -> Iterator[tuple[int, tuple[str, str | None, int]]]:
    """Number; id, user and time of the rows that are old enough: of live ones mostly none."""
    times = rows["created_at"].cast(pa.int64())
    old = pc.indices_nonzero(pc.less_equal(times, newest))
    found = (rows["row_id"].take(old), rows["user_id"].take(old), times.take(old))
    return zip(old.to_pylist(), zip(*(column.to_pylist() for column in found), strict=True), strict=True)


def _letters(rows: Any) -> Iterator[tuple[str, str | None, int]]:
    """Id, user and time of the row in each dead letter, as far as it can be read; else the letter's time."""
    failed = rows["failed_at"].cast(pa.int64()).to_pylist()
    ids, payloads = rows["row_id"].to_pylist(), rows["payload"].to_pylist()
    for row_id, payload, micros in zip(ids, payloads, failed, strict=True):
        user = None
        with contextlib.suppress(orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError):
            told = orjson.loads(payload)
            user, row_id = told.get("user_id"), row_id or str(told.get("row_id") or "")
            micros = micros_of(datetime.fromisoformat(told["created_at"]))
        yield row_id, user if isinstance(user, str) else None, micros
