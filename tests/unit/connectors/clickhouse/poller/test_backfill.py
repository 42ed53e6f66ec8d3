"""Where a backfill ends, and what it leaves out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from connectors.clickhouse.poller import backfill
from connectors.clickhouse.poller.backfill import OldRows, _Page, poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.row_identity import Mark
from connectors.clickhouse.poller.row_messages import NamedMessage
from connectors.clickhouse.poller.settled_rows import PassingRows
from streams.core.environment import load
from streams.core.records import Outgoing
from streams.core.topics import Topics
from tests.unit.streams.privacy.fakes import SECRET, make_door


def test_a_backfill_ends_where_the_poller_s_window_may_begin() -> None:
    settings = load({"POLL_LOOKBACK_SECONDS": "100"}, None)
    assert poller_begins(Cursor(watermark=1_000_000_000), settings) == 1_000_000_000 - 106_000_000
    assert poller_begins(Cursor(watermark=1_000_000_000, floor=999_000_000), settings) == 999_000_000


async def test_a_row_with_a_label_that_cannot_be_masked_is_no_dead_letter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def labelled_between(
        _: Any, __: Any, first: int, last: int, add: Callable[[str, int, str], None]
    ) -> None:
        add("1", 5, "its text when it was labelled")

    monkeypatch.setattr(backfill, "labelled_between", labelled_between)
    settings = load({"PRIVACY": "mask", "PRIVACY_SECRET": SECRET}, None)
    old = OldRows(object(), settings, Topics("t"), since=None, until=10, door=make_door())  # type: ignore[arg-type]
    way = PassingRows(any_text=True)
    way.add("3", 5, "")
    letters = [
        NamedMessage(Outgoing("t.dead-letter", 0, key, b""), Mark(micros, number, number, 1), 0.0)
        for number, (key, micros) in enumerate([(b"1", 5), (b"1", 6), (b"2", 5), (b"3", 5)])
    ]
    _, left = await old._open(_Page([], letters), 5, 6, way, False)
    assert left == [letters[1].outgoing, letters[2].outgoing]
    assert [one.mark.content for one in old.settled] == [0, 3]
