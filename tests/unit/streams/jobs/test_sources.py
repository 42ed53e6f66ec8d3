"""Which rows of a source a replay takes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from streams.core.cascade import CascadeState, ProxyRef
from streams.core.codec import encode
from streams.core.messages import Row
from streams.core.records import Partition, Record
from streams.core.times import micros_of
from streams.jobs.job import Job
from streams.jobs.judged_first import JudgedFirst
from streams.jobs.saved_calls import calls_with_cascade
from streams.jobs.sources import Item, RowSource, TableFeed, TopicFeed, in_sample

AT = datetime(2026, 1, 1, tzinfo=UTC)


def test_a_sample_is_about_its_share_and_the_same_each_time() -> None:
    items = [Item(str(n), b"t", 0, "x", 0, b"") for n in range(5000)]
    chosen = [item for item in items if in_sample(0.2)(item)]
    assert 850 < len(chosen) < 1150
    assert chosen == [item for item in items if in_sample(0.2)(item)]
    assert set(chosen) < {item for item in items if in_sample(0.5)(item)}
    assert all(map(in_sample(None), items))


class Topic:
    """The rows topic with one partition, and no more of a reader than `TopicFeed` needs."""

    def __init__(self, texts: list[str]) -> None:
        self.records = []
        for offset, text in enumerate(texts):
            row = Row(row_id=str(offset), text=text, created_at=AT, polled_at=AT)
            self.records.append(Record("rows", 0, offset, 0, b"", encode(row)))

    async def read_many(self, starts: dict[Partition, int]) -> AsyncIterator[list[Record]]:
        for start in starts.values():
            yield self.records[start:]


async def collected(feed: RowSource, position: Any = None, most: int = 10**6) -> tuple[list[str], list[Any]]:
    """Ids and positions of the first ``most`` pages from ``position``."""
    ids: list[str] = []
    positions: list[Any] = []
    async for page in feed.pages(position):
        ids += [item.row_id for item in page.items]
        positions.append(orjson.loads(orjson.dumps(page.position, option=orjson.OPT_NON_STR_KEYS)))
        if len(positions) == most:
            break
    return ids, positions


async def test_in_passes_each_row_of_a_topic_comes_once_and_equal_texts_together() -> None:
    texts = [f"text {n % 700}" for n in range(1_400)]
    job = Job(source="topic", starts={0: 0}, ends={0: 1_400}, passes=4)
    feed = TopicFeed(Topic(texts), "rows", job)  # type: ignore[arg-type]
    ids, positions = await collected(feed)
    assert sorted(map(int, ids)) == list(range(1_400))
    order = [texts[int(one)] for one in ids]
    firsts = [one for at, one in enumerate(order) if one not in order[:at]]
    assert 100 < sum(int(one.split()[1]) < 350 for one in firsts[:350]) < 250
    for pages in range(1, len(positions)):
        before, _ = await collected(feed, most=pages)
        after, _ = await collected(feed, positions[pages - 1])
        assert before + after == ids


class Part:
    """The labelled rows of one pass, a page each."""

    def __init__(self, numbers: list[int]) -> None:
        self._rows = [Row(row_id=str(n), text=f"t{n}", created_at=AT, polled_at=AT) for n in numbers]

    async def count(self) -> int:
        return len(self._rows)

    async def pages(self, after: tuple[int, str] | None) -> AsyncIterator[tuple[list[Row], tuple[int, str]]]:
        for row in self._rows:
            place = (micros_of(row.created_at), row.row_id)
            if after is None or place > after:
                yield [row], place


async def test_a_table_is_read_in_passes_and_taken_up_in_any_of_them() -> None:
    feed = TableFeed([Part([1, 2, 3]), Part([]), Part([4, 5])], 4)  # type: ignore[list-item]
    ids, positions = await collected(feed)
    assert (ids, await feed.count()) == (["1", "2", "3", "4", "5"], 5)
    for pages in range(1, len(positions)):
        before, _ = await collected(feed, most=pages)
        after, _ = await collected(feed, positions[pages - 1])
        assert before + after == ids
    _, positions = await collected(TableFeed([Part([1])], 4))  # type: ignore[list-item]
    assert positions == [[micros_of(AT), "1"], [micros_of(AT), "1"]]


def judged(*numbers: int) -> JudgedFirst:
    """Of rows whose text ends with their number."""
    return JudgedFirst((f"Text  {n % 700}", (str(n), micros_of(AT))) for n in numbers)


async def test_rows_that_people_judged_come_first_if_they_are_the_first_of_their_texts() -> None:
    texts = [f"text {n % 700}" for n in range(1_400)]
    job = Job(source="topic", starts={0: 0}, ends={0: 1_400}, passes=4)

    def feed() -> TopicFeed:
        return TopicFeed(Topic(texts), "rows", job, judged(600, 5, 1_000, 77))  # type: ignore[arg-type]

    ids, positions = await collected(feed())
    assert sorted(map(int, ids)) == list(range(1_400))
    assert ids[:3] == ["5", "77", "600"]  # row 300 has the text of row 1,000
    assert "1000" not in ids[:20]
    for pages in range(1, len(positions)):
        before, _ = await collected(feed(), most=pages)
        after, _ = await collected(feed(), positions[pages - 1])
        # What came first in a reading before is found on the topics, and left out.
        assert list(dict.fromkeys(before + after)) == ids


async def test_rows_of_a_table_that_people_judged_come_first() -> None:
    def feed() -> TableFeed:
        first = Part([2, 4, 5])
        some = JudgedFirst((f"t{n}", (str(n), micros_of(AT))) for n in (2, 5))
        return TableFeed([Part([1, 2, 3]), Part([4, 5])], 4, first, some)  # type: ignore[list-item,arg-type]

    ids, positions = await collected(feed())
    assert (ids, await feed().count()) == (["2", "5", "1", "3", "4"], 5)
    for pages in range(1, len(positions)):
        before, _ = await collected(feed(), most=pages)
        after, _ = await collected(feed(), positions[pages - 1])
        assert list(dict.fromkeys(before + after)) == ids


@pytest.mark.parametrize(
    ("state", "calls"),
    [
        (None, 6_000),
        (CascadeState(version="v", state="learning"), 6_000),
        (
            CascadeState(
                version="v",
                state="certified",
                generation=1,
                proxy=ProxyRef.of(1, b"x"),
                threshold=0.5,
                coverage=0.6,
                audit_rate=0.1,
            ),
            4_600,
        ),
    ],
)
def test_a_cascade_is_expected_to_leave_some_calls(state: CascadeState | None, calls: int) -> None:
    assert calls_with_cascade(10_000, state) == calls
    assert calls_with_cascade(0, state) == 0
