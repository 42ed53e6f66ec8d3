"""Up to which time all rows have their labels in the tables, whatever a partition does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from streams.core.records import Partition
from streams.core.topics import Topics
from streams.drift.stored_rows import StoredRows

TOPICS = Topics("esk")
AGENTS, SINK = TOPICS.groups.agents.name, TOPICS.groups.sink.name
DAY = 86_400.0


class Pipeline:
    """Three partitions in memory. Rows are published, labelled and stored as the test says; a partition in
    ``paused`` is not labelled.
    """

    def __init__(self) -> None:
        self.ends = {TOPICS.rows: [0, 0, 0], TOPICS.labeled: [0, 0, 0]}
        self.firsts = {TOPICS.rows: [0, 0, 0], TOPICS.labeled: [0, 0, 0]}
        self.done = {(AGENTS, TOPICS.rows): [-1, -1, -1], (SINK, TOPICS.labeled): [-1, -1, -1]}
        self.paused: set[int] = set()
        self.sink_paused = False
        self.now = 0.0
        self.stored = StoredRows(TOPICS, 3, cast(Any, self), cast(Any, self), lambda: self.now)

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {one: (self.firsts[one[0]][one[1]], self.ends[one[0]][one[1]]) for one in partitions}

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        return dict(enumerate(self.done[group, topic]))

    def publish(self, *partitions: int) -> None:
        for one in partitions:
            self.ends[TOPICS.rows][one] += 10

    def work(self) -> None:
        rows, labels = self.done[AGENTS, TOPICS.rows], self.ends[TOPICS.labeled]
        if not self.sink_paused:
            self.done[SINK, TOPICS.labeled] = [end or -1 for end in labels]
        for one in {0, 1, 2} - self.paused:
            labels[one] += self.ends[TOPICS.rows][one] - max(rows[one], 0)
            rows[one] = self.ends[TOPICS.rows][one] or -1

    async def until(self, published: int) -> int | None:
        await self.stored.look(published)
        return self.stored.until


async def test_an_empty_pipeline_has_stored_all() -> None:
    assert await Pipeline().until(100) == 100


async def test_it_follows_what_is_published_while_rows_are_always_under_way() -> None:
    pipeline, found = Pipeline(), []
    for minute in range(6):
        pipeline.publish(0, 1, 2)
        found.append(await pipeline.until(minute))
        pipeline.work()
    assert found == [None, None, 0, 1, 2, 3]


async def test_a_paused_worker_holds_it_and_catches_up() -> None:
    pipeline = Pipeline()
    pipeline.paused = {1}
    for minute in range(5):
        pipeline.publish(0, 1, 2)
        assert await pipeline.until(minute) is None
        pipeline.work()
    # Another partition is far ahead, and this one without new rows: it is waited for all the same.
    pipeline.publish(0)
    assert await pipeline.until(5) is None
    pipeline.paused.clear()
    for _ in range(2):
        pipeline.work()
        await pipeline.until(6)
    assert pipeline.stored.until == 6


async def test_a_silent_partition_and_one_that_never_had_a_row_hold_nothing() -> None:
    pipeline = Pipeline()
    pipeline.publish(0, 1)
    pipeline.work()
    for minute in range(5):
        pipeline.publish(0)
        await pipeline.until(minute)
        pipeline.work()
    assert pipeline.stored.until == 2


async def test_labels_that_are_not_in_the_tables_yet_hold_it() -> None:
    pipeline = Pipeline()
    pipeline.sink_paused = True
    pipeline.publish(0, 1, 2)
    for minute in range(4):
        pipeline.work()
        assert await pipeline.until(minute) is None
    pipeline.sink_paused = False
    pipeline.work()
    assert await pipeline.until(4) is not None


async def test_a_backlog_is_complete_when_its_last_partition_is_through() -> None:
    pipeline = Pipeline()
    pipeline.paused = {0, 1, 2}
    for _ in range(60):
        pipeline.publish(0, 1, 2)
    assert await pipeline.until(60) is None
    for slow in ({1, 2}, {2}):
        pipeline.paused = set(slow)
        pipeline.work()
        assert await pipeline.until(60) is None
    pipeline.paused = set()
    pipeline.work()
    pipeline.work()
    assert await pipeline.until(60) == 60


async def test_what_retention_took_is_not_waited_for() -> None:
    pipeline = Pipeline()
    pipeline.paused = {1}
    pipeline.publish(0, 1, 2)
    pipeline.work()
    assert await pipeline.until(1) is None
    pipeline.firsts[TOPICS.rows][1] = 10
    pipeline.work()
    assert await pipeline.until(2) == 2


async def test_a_topic_that_was_made_anew_is_not_waited_for() -> None:
    pipeline = Pipeline()
    for _ in range(9):
        pipeline.publish(0, 1, 2)
    assert await pipeline.until(1) is None
    pipeline.ends[TOPICS.rows] = [0, 0, 0]
    assert await pipeline.until(2) == 2


async def test_a_partition_that_stands_for_a_day_is_passed_over_and_told() -> None:
    pipeline = Pipeline()
    pipeline.paused = {1}
    pipeline.publish(0, 1, 2)
    pipeline.work()
    await pipeline.until(1)
    pipeline.now = DAY - 1
    assert (await pipeline.until(2), pipeline.stored.lacking) == (None, 0)
    pipeline.now = DAY
    pipeline.work()
    assert (await pipeline.until(3), pipeline.stored.lacking) == (1, 1)
    pipeline.paused.clear()
    pipeline.work()
    pipeline.work()
    await pipeline.until(4)
    assert (await pipeline.until(5), pipeline.stored.lacking) == (5, 1)
