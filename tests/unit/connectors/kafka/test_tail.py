"""The reader of topics' tails."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from connectors.kafka import tail
from connectors.kafka.tail import TailReader
from streams.core.records import Partition

_PLACE = TopicPartition("t", 0)


class Fetched:
    """A consumer that has fetched everything already: it hands messages over without ever waiting."""

    def __init__(self, count: int) -> None:
        self._count, self._given = count, 0

    async def __aenter__(self) -> Fetched:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def assign(self, places: Any) -> None:
        pass

    def seek(self, place: TopicPartition, offset: int) -> None:
        pass

    def pause(self, place: TopicPartition) -> None:
        pass

    async def position(self, place: TopicPartition) -> int:
        return self._given

    async def getmany(self, *places: TopicPartition, timeout_ms: int, max_records: int | None = None) -> Any:
        begin, self._given = self._given, min(self._count, self._given + (max_records or self._count))
        return {_PLACE: [_message(offset) for offset in range(begin, self._given)]}


def _message(offset: int) -> Any:
    return SimpleNamespace(topic="t", partition=0, offset=offset, timestamp=0, key=b"", value=b"", headers=())


async def test_other_tasks_get_their_turn_while_much_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    count, turns = 40_000, 0
    monkeypatch.setattr(tail, "_Reading", lambda connection: Fetched(count))

    async def beat() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beating, read = asyncio.create_task(beat()), 0
    async for records in TailReader({}).read_many({Partition("t", 0): 0}, {Partition("t", 0): (0, count)}):
        assert len(records) <= 5_000
        read += len(records)
    beating.cancel()
    assert read == count
    assert turns >= 8
