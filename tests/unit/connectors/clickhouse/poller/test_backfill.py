"""Which rows a backfill leaves out, and where it ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from connectors.clickhouse.poller.backfill import Settled, poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from streams.core.environment import load
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
    assert settled.has(row("1"))
    assert not settled.has(row("1", text="another"))
    assert not settled.has(row("1", second=1))
    assert settled.has(row("2"))  # the same row, named when another had its id
    assert not settled.has(row("2~ffff"))  # a twin of it, which is not labelled yet
    assert settled.has(row("d" * 32 + ":1"))
    assert not settled.has(row("d" * 32 + ":2"))


def test_a_backfill_ends_where_the_poller_s_window_may_begin() -> None:
    settings = load({"POLL_LOOKBACK_SECONDS": "100"}, None)
    assert poller_begins(Cursor(watermark=1_000_000_000), settings) == 1_000_000_000 - 106_000_000
    assert poller_begins(Cursor(watermark=1_000_000_000, floor=999_000_000), settings) == 999_000_000
