"""Where a backfill ends, what it leaves out, and what it masks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import pytest

from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller import backfill
from connectors.clickhouse.poller.backfill import OldRows, poller_begins
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.source.table import SourceRow
from streams.core.environment import load
from streams.core.topics import Topics
from streams.privacy.door import Door
from streams.privacy.erasure import NOTHING, ErasureList
from tests.unit.connectors.clickhouse.poller.fakes import FakeSource, source_row
from tests.unit.streams.privacy.fakes import SECRET, UNMASKABLE, make_door


def test_a_backfill_ends_where_the_poller_s_window_may_begin() -> None:
    settings = load({"POLL_LOOKBACK_SECONDS": "100"}, None)
    assert poller_begins(Cursor(watermark=1_000_000_000), settings) == 1_000_000_000 - 106_000_000
    assert poller_begins(Cursor(watermark=1_000_000_000, floor=999_000_000), settings) == 999_000_000


@pytest.fixture
def door() -> Door:
    return make_door()


@pytest.fixture
def old_rows(monkeypatch: pytest.MonkeyPatch, door: Door) -> Callable[..., OldRows]:
    """Makes them of rows of the source, where the rows with the id 1 and the time 5 have a label."""

    async def nobody(*_: Any) -> bool:
        return False

    async def labelled_between(
        _: Any, __: Any, first: int, last: int, add: Callable[[str, int, str], None]
    ) -> None:
        add("1", 5, "its text when it was labelled")

    async def nothing(_: Any) -> ErasureList:
        return NOTHING

    monkeypatch.setattr(backfill, "any_given_up", nobody)
    monkeypatch.setattr(backfill, "labelled_between", labelled_between)
    monkeypatch.setattr(ErasedRows, "now", nothing)

    def make(rows: Iterable[SourceRow], only: Collection[str] | None = None) -> OldRows:
        settings = load({"PRIVACY": "mask", "PRIVACY_SECRET": SECRET}, None)
        old = OldRows(object(), settings, Topics("t"), since=None, until=100, door=door, only=only)  # type: ignore[arg-type]
        old._source = FakeSource(list(rows), page_rows=2)  # type: ignore[assignment]
        return old

    return make


def _passing() -> PassingRows:
    way = PassingRows(any_text=True)
    way.add("3", 5, "")
    return way


ROWS = [
    source_row(5, "labelled +7 916 123-45-67", 1),
    source_row(6, "new +7 916 123-45-67", 2),
    source_row(5, "on its way +7 916 123-45-67", 3),
    source_row(6, "of another time +7 916 123-45-67", 1),
]


async def test_only_rows_that_are_not_settled_are_masked(old_rows: Any, door: Door) -> None:
    old = old_rows(ROWS)
    found = [one.row async for rows, _, _ in old.pages(None, _passing()) for one in rows]
    assert sorted((row.row_id[0], row.text) for row in found) == [
        ("1", "of another time [ТЕЛЕФОН]"),
        ("2", "new [ТЕЛЕФОН]"),
    ]
    assert (door.counts["texts"], old.counts["settled"]) == (2, 2)


async def test_what_is_settled_is_found_without_masking(old_rows: Any, door: Door) -> None:
    old = old_rows(ROWS)
    marks = [one.mark async for some in old.settled_marks(_passing()) for one in some]
    assert [mark.micros for mark in marks] == [5, 5]
    assert door.counts["texts"] == 0


async def test_rows_that_are_asked_for_come_alone_and_settled_ones_too(old_rows: Any, door: Door) -> None:
    old = old_rows(ROWS, {"1", "3"})
    found = [one.row async for rows, _, _ in old.pages(None, _passing()) for one in rows]
    assert sorted(row.text.split()[0] for row in found) == ["labelled", "on"]
    assert door.counts["texts"] == 2


async def test_a_row_with_a_label_that_cannot_be_masked_is_no_dead_letter(old_rows: Any) -> None:
    rows = [source_row(at, UNMASKABLE, id_) for id_, at in ((1, 5), (1, 6), (2, 5), (3, 5))]
    old = old_rows(rows)
    left = [one.key async for _, letters, _ in old.pages(None, _passing()) for one in letters]
    assert [key.partition(b"~")[0] for key in left] == [b"2", b"1"]
