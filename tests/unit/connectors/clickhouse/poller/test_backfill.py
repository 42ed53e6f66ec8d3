"""Where a backfill ends."""

from __future__ import annotations

from connectors.clickhouse.poller.backfill import poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from streams.core.environment import load


def test_a_backfill_ends_where_the_poller_s_window_may_begin() -> None:
    settings = load({"POLL_LOOKBACK_SECONDS": "100"}, None)
    assert poller_begins(Cursor(watermark=1_000_000_000), settings) == 1_000_000_000 - 106_000_000
    assert poller_begins(Cursor(watermark=1_000_000_000, floor=999_000_000), settings) == 999_000_000
