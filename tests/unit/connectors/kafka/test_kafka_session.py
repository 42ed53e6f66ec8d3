"""A session's fetches end with it."""

from __future__ import annotations

import asyncio
from collections import deque
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.kafka.consumer import Session
from streams.core.errors import LeaseLostError
from streams.core.records import Commit, Partition

PLACE = Partition("labeled", 0)


class Consumer:
    """As aiokafka's: in a rebalance a fetch waits for the next assignment, then hands out its records."""

    def __init__(self) -> None:
        self.assigned = asyncio.Event()
        self.left = deque([SimpleNamespace(offset=offset) for offset in range(3)])

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Partition, list[Any]]:
        await self.assigned.wait()
        records = [
            SimpleNamespace(
                topic="labeled", partition=0, offset=r.offset, timestamp=0, key=None, value=b"", headers=()
            )
            for r in self.left
        ]
        self.left.clear()
        return {PLACE: records}


async def test_a_fetch_that_outlives_its_session_takes_nothing_from_the_next() -> None:
    consumer = Consumer()
    former = Session(consumer, 1, {PLACE: Commit(0)})
    fetching = asyncio.create_task(former.fetch(seconds=1, most=10))
    await asyncio.sleep(0)
    await former.end()
    with pytest.raises(LeaseLostError):
        await fetching
    consumer.assigned.set()
    following = Session(consumer, 2, {PLACE: Commit(0)})
    assert [record.offset for record in await following.fetch(seconds=1, most=10)] == [0, 1, 2]
    with pytest.raises(LeaseLostError):
        await former.fetch(seconds=1, most=10)


async def test_a_fetch_whose_caller_is_cancelled_is_cancelled_with_it() -> None:
    consumer = Consumer()
    session = Session(consumer, 1, {PLACE: Commit(0)})
    fetching = asyncio.create_task(session.fetch(seconds=1, most=10))
    await asyncio.sleep(0)
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    consumer.assigned.set()
    assert len(await session.fetch(seconds=1, most=10)) == 3
