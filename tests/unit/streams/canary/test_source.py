"""Which live rows a canary takes, and where it goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from streams.canary.source import LiveFeed, in_canary
from streams.core.codec import REPLAY_JOB, decode, encode, headers_of
from streams.core.environment import load
from streams.core.messages import Labeled, Row
from streams.core.records import Partition, Record
from streams.jobs.job import Job
from streams.jobs.sources import Page
from streams.ports.lookups import Place

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = load({"TOPIC_PARTITIONS": "2"})


class Log:
    """Labels on two partitions."""

    def __init__(self) -> None:
        self.logs: dict[int, list[Record]] = {0: [], 1: []}

    def add(self, row_id: str, version: str = "v1", job: bytes | None = None) -> None:
        labeled = Labeled(
            row_id=row_id,
            text=f"text {row_id}",
            created_at=BEGIN + timedelta(seconds=int(row_id)),
            polled_at=BEGIN,
            user_id="u",
            label="a",
            confidence=0.9,
            alternatives=[],
            label_version=version,
            model="m",
            labeled_at=BEGIN,
            cached=False,
        )
        headers = headers_of(labeled) + ([(REPLAY_JOB, job)] if job is not None else [])
        log = self.logs[int(row_id) % 2]
        log.append(
            Record("t", int(row_id) % 2, len(log), 0, row_id.encode(), encode(labeled), tuple(headers))
        )

    async def read_many(self, starts: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        for where, start in starts.items():
            if some := self.logs[where.partition][start:]:
                yield some


class Ended(Exception):
    pass


async def read(
    log: Log, job: Job, position: object = None, topic_id: str = "one", *wanted: Row
) -> list[Page]:
    """The pages of two looks."""
    looks = 0

    async def pause(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise Ended

    async def others() -> tuple[Row, ...]:
        return wanted

    feed = LiveFeed(log, "t", topic_id, SETTINGS, job, others, pause)  # type: ignore[arg-type]
    pages: list[Page] = []

    async def run() -> None:
        async for page in feed.pages(position):
            pages.append(page)

    with pytest.raises(Ended):
        await run()
    return pages


def canary(share: float = 1.0, **more: object) -> Job:
    return Job(source="live", version="v2", share=share, source_topic_id="one", **more)  # type: ignore[arg-type]


def taken(pages: list[Page]) -> list[str]:
    return [item.row_id for page in pages for item in page.items]


def test_the_draw_is_about_its_share_the_same_for_all_and_grows_with_it() -> None:
    places = [Place(BEGIN + timedelta(seconds=n), str(n)) for n in range(5000)]
    some = {place for place in places if in_canary(SETTINGS, 0.05, place)}
    assert 190 < len(some) < 310
    assert some < {place for place in places if in_canary(SETTINGS, 0.1, place)}
    other = load({"TOPIC_PREFIX": "other"})
    assert some != {place for place in places if in_canary(other, 0.05, place)}


async def test_it_takes_live_rows_that_have_a_label_and_nothing_else() -> None:
    log = Log()
    log.add("1")
    log.add("2", version="v2")  # has it already
    log.add("3", version="human")
    log.add("4", job=b"a-replay")
    log.add("5", version="v0")  # a worker that was not restarted yet
    log.logs[0].append(Record("t", 0, 2, 0, b"6", b"no label", ()))
    pages = await read(log, canary())
    assert taken(pages) == ["1", "5"]
    item = next(item for page in pages for item in page.items)
    row = decode(Row, item.value)
    assert (row.row_id, row.text, row.user_id, row.created_at) == (
        "1",
        "text 1",
        "u",
        BEGIN + timedelta(seconds=1),
    )
    assert b"label" not in item.value


async def test_it_goes_on_where_it_was_and_from_the_start_of_a_new_topic() -> None:
    log = Log()
    for n in range(10):
        log.add(str(n))
    job = canary(starts={0: 2, 1: 3})
    first = await read(log, job)
    assert sorted(taken(first)) == ["4", "6", "7", "8", "9"]
    log.add("10")
    assert taken(await read(log, job, first[-1].position)) == ["10"]
    assert len(taken(await read(log, job, first[-1].position, "another"))) == 11


async def test_rows_that_are_wanted_come_too_and_no_row_twice() -> None:
    log = Log()
    log.add("1")
    judged = [
        Row(row_id=name, text="x", created_at=BEGIN + timedelta(seconds=int(name)), polled_at=BEGIN)
        for name in ("1", "7")
    ]
    assert taken(await read(log, canary(), None, "one", *judged)) == ["1", "7"]
    # A share of almost nothing draws no row, and those that are wanted come all the same.
    assert taken(await read(log, canary(1e-9), None, "one", *judged)) == ["1", "7"]
