"""Which rows a backfill leaves out."""

from __future__ import annotations

import tracemalloc
from datetime import UTC, datetime, timedelta

from connectors.clickhouse.poller.settled_rows import PassingRows, RowDigest, Settled
from streams.core.messages import Row
from streams.core.times import micros_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def row(row_id: str, text: str = "text", second: int = 0) -> Row:
    return Row(row_id=row_id, text=text, created_at=NOW + timedelta(seconds=second), polled_at=NOW)


def test_a_row_is_settled_by_id_time_and_text_and_twins_are_counted() -> None:
    at = micros_of(NOW)
    settled = Settled()
    for row_id in ("1", "2~abcd", "d" * 32 + ":1"):
        settled.add(row_id, at, "text")
        settled.add(row_id, at, "text")  # it is labelled, and in flight
    assert settled.has(row("1"))
    assert not settled.has(row("1", text="another"))
    assert not settled.has(row("1", second=1))
    assert settled.has(row("2"))  # the same row, named when another had its id
    assert not settled.has(row("2~ffff"))  # a twin of it, which is not labelled yet
    assert settled.has(row("d" * 32 + ":1"))
    assert not settled.has(row("d" * 32 + ":2"))


def test_passing_rows_are_found_by_their_time_and_need_little_memory() -> None:
    passing = PassingRows()
    assert list(passing.between(0, 10)) == []
    tracemalloc.start()
    try:
        for number in range(20_000):
            passing.add(f"row {number}", number % 1_000, f"text {number}")
        assert list(passing.between(1_000, 2_000)) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 40 * 20_000
    assert len(list(passing.between(10, 19))) == 200
    passing.add("row", 1_500, "text")
    assert list(passing.between(1_000, 2_000)) == [RowDigest.of("row", 1_500, "text")]
    assert RowDigest.of("row 7", 7, "text 7") in list(passing.between(7, 7))
