"""A job is not done while rows of it are lost: they are published again, once for each loss."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from streams.core.losses import Loss
from streams.core.records import Outgoing, Partition, Record
from streams.core.topics import Topics
from streams.jobs import runner as module
from streams.jobs.job import Job, Jobs
from streams.jobs.runner import JobRun

TOPICS = Topics("esk")
ID = UUID(int=1)


class World:
    """Workers and a sink that have done everything, and the cursor topic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cursor: list[Outgoing] = []
        self.context: Any = SimpleNamespace(
            topics=TOPICS, jobs=Jobs(), tail=self, admin=self, settings=SimpleNamespace(topic_partitions=1)
        )

        async def note(context: Any, *messages: Outgoing) -> None:
            self.cursor += messages

        async def nothing(*_: Any) -> int:
            return 0

        async def read_ends(*_: Any) -> dict[Partition, int]:
            return {}

        monkeypatch.setattr(module, "note", note)
        monkeypatch.setattr(module, "count_unlabeled", nothing)
        monkeypatch.setattr(module, "count_unstored", nothing)
        monkeypatch.setattr(module, "read_ends", read_ends)

    async def topic_id(self, topic: str) -> UUID:
        return ID

    async def read(self, topic: str, partition: int, start: int) -> AsyncIterator[list[Record]]:
        yield [Record(topic, 0, n, 0, one.key, one.value) for n, one in enumerate(self.cursor)]

    def lose(self, topic: str, end: int, found_at: datetime) -> None:
        loss = Loss(
            group="g", topic=topic, topic_id=str(ID), partition=0, start=2, end=end, found_at=found_at
        )
        self.cursor.append(loss.message(TOPICS.cursor))

    async def finish(self, job: Job) -> Job:
        return await JobRun(self.context, job.id, lambda job, left: None).finish(job)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def published(**given: Any) -> Job:
    return Job(source="table", version="v2", complete=True, published=9, position=[1], **given).model_copy(
        update={"replay_topic_id": str(ID)}
    )


def later(job: Job) -> datetime:
    return job.begun_at + timedelta(seconds=1)


async def test_a_job_that_lost_nothing_is_done(world: World) -> None:
    job = published()
    world.lose(TOPICS.replay, 5, job.begun_at - timedelta(seconds=1))
    world.lose(TOPICS.augmented, 5, later(job))
    world.lose(TOPICS.labeled, 5, later(job))  # its labels are for the shadow topic
    assert (await world.finish(job)).done


@pytest.mark.parametrize(
    ("to", "topic"),
    [("shadow", TOPICS.replay), ("shadow", TOPICS.shadow), ("labeled", TOPICS.labeled)],
)
async def test_rows_that_are_lost_on_the_way_are_published_again(world: World, to: str, topic: str) -> None:
    job = published(to=to)
    world.lose(topic, 5, later(job))
    again = await world.finish(job)
    assert (again.done, again.complete, again.position, again.published) == (False, False, None, 0)
    again = again.model_copy(update={"complete": True, "replay_topic_id": str(ID)})
    world.lose(topic, 8, later(job))  # the same loss has grown meanwhile
    more = await world.finish(again)
    assert not more.complete
    assert sum(more.lost.values()) > sum(again.lost.values())
    more = more.model_copy(update={"complete": True, "replay_topic_id": str(ID)})
    assert (await world.finish(more)).done


async def test_a_job_with_a_limit_does_not_take_other_rows_instead(world: World) -> None:
    job = published(limit=9)
    world.lose(TOPICS.replay, 5, later(job))
    assert (await world.finish(job)).done
