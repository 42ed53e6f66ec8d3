"""Rows that were erased are not stored again, wherever they come from."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from connectors.clickhouse.sink.batch import Batch
from streams.core.times import micros_of
from streams.privacy.erasure import ErasureList

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')
_TIME = re.compile(rb'"created_at"\s*:\s*"([^"]*)"')
_MOST_STRINGS = 1000


def without_erased(batch: Batch, erased: ErasureList) -> Batch:
    """``batch`` without the rows that ``erased`` covers; itself if it covers none of them."""
    if erased.newest is None or not len(batch):
        return batch
    if "payload" in batch.rows.column_names:
        gone = {
            at for at, some in enumerate(_letters(batch.rows)) if any(erased.covers(*one) for one in some)
        }
    else:
        gone = {at for at, one in _old_rows(batch.rows, erased) if erased.covers(*one)}
    if not gone:
        return batch
    kept = [at for at in range(len(batch)) if at not in gone]
    return Batch(batch.rows.take(pa.array(kept, pa.int64())), [batch.records[at] for at in kept])


def _old_rows(rows: Any, erased: ErasureList) -> Iterator[tuple[int, tuple[str, str | None, int]]]:
    """Number; id, user and time of the rows that are old enough: of live ones mostly none."""
    times = rows["created_at"].cast(pa.int64())
    may = pc.less_equal(times, erased.newest)
    if erased.beyond:
        may = pc.or_(may, pc.is_in(times, pa.array(sorted(erased.beyond), pa.int64())))
    old = pc.indices_nonzero(may)
    found = (rows["row_id"].take(old), rows["user_id"].take(old), times.take(old))
    return zip(old.to_pylist(), zip(*(column.to_pylist() for column in found), strict=True), strict=True)


def _letters(rows: Any) -> Iterator[list[tuple[str, str | None, int]]]:
    """Id, user and time of the row in each dead letter, as far as it can be read; else the letter's time.
    What is no JSON may have an id in any of its strings.
    """
    failed = rows["failed_at"].cast(pa.int64()).to_pylist()
    ids, payloads = rows["row_id"].to_pylist(), rows["payload"].to_pylist()
    for row_id, payload, micros in zip(ids, payloads, failed, strict=True):
        try:
            told = orjson.loads(payload)
        except (orjson.JSONDecodeError, TypeError):
            yield [(row_id, None, micros), *_broken(payload or b"", micros)]
            continue
        user = None
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
            user, row_id = told.get("user_id"), row_id or str(told.get("row_id") or "")
            micros = micros_of(datetime.fromisoformat(told["created_at"]))
        yield [(row_id, user if isinstance(user, str) else None, micros)]


def _broken(payload: bytes, micros: int) -> Iterator[tuple[str, str, int]]:
    """Each string of what is no JSON, as an id and as a user."""
    with contextlib.suppress(AttributeError, TypeError, ValueError):
        micros = micros_of(datetime.fromisoformat(_TIME.search(payload)[1].decode()))  # type: ignore[index]
    for found in islice(_STRING.finditer(payload), _MOST_STRINGS):
        with contextlib.suppress(orjson.JSONDecodeError):
            one = orjson.loads(found[0])
            yield one, one, micros
