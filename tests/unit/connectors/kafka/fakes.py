"""aiokafka's group consumer in memory: one member, whose group is moved by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import OffsetAndMetadata

from streams.core.records import Partition, Record

MEMBER = "me"


class FakeCoordinator:
    """The parts of aiokafka's coordinator that are used. ``error``: what a task of it has failed with."""

    group_id = "group"

    def __init__(self) -> None:
        self.generation = -1
        self.member_id = ""
        self.committed: dict[TopicPartition, OffsetAndMetadata] = {}
        self.fetches: list[int] = []
        self.error: BaseException | None = None

    async def fetch_committed_offsets(
        self, places: list[TopicPartition]
    ) -> dict[TopicPartition, OffsetAndMetadata]:
        self.fetches.append(len(places))
        return {place: self.committed[place] for place in places if place in self.committed}

    async def _do_heartbeat(self) -> bool:
        return self.generation != -1

    async def _do_commit_offsets(self, assignment: Any, offsets: Any) -> None: ...

    async def _send_req(self, request: Any) -> Any:
        return SimpleNamespace(
            groups=[(0, self.group_id, "Stable", "consumer", "range", [(MEMBER, "", "", b"", b"")])]
        )

    def check_errors(self) -> None:
        if self.error is not None:
            raise self.error

    def reset_generation(self) -> None:
        self.generation = -1

    def request_rejoin(self) -> None: ...


class FakeConsumer:
    """What `GroupConsumer` makes instead of aiokafka's. ``records``: what is still to be read."""

    def __init__(self, **_: Any) -> None:
        self._coordinator = FakeCoordinator()
        self._fetcher = SimpleNamespace(_fetch_task=None, _update_fetch_positions=None)
        self._client = SimpleNamespace(_sync_task=None)
        self.records: list[Record] = []
        self.stopped = False
        self._listener: Any = None
        self._beating: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._beating = asyncio.get_running_loop().create_task(self._beat())

    async def stop(self) -> None:
        self.stopped = True
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])

    def subscribe(self, topics: list[str], listener: Any) -> None:
        self._listener = listener

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Partition, list[Record]]:
        self._coordinator.check_errors()
        await asyncio.sleep(0 if self.records else 0.02)
        found, self.records = self.records, []
        return {Partition(found[0].topic, found[0].partition): found} if found else {}

    async def commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        self._coordinator.committed |= offsets

    def seek(self, place: TopicPartition, offset: int) -> None: ...

    async def rebalance(self, partitions: Iterable[Partition]) -> None:
        """The group gives other partitions. What the listener raises is dropped, as aiokafka does."""
        with contextlib.suppress(Exception):
            await self._listener.on_partitions_revoked(set())
        self._coordinator.generation += 1 if self._coordinator.generation != -1 else 2
        self._coordinator.member_id = MEMBER
        with contextlib.suppress(Exception):
            await self._listener.on_partitions_assigned({TopicPartition(*one) for one in partitions})

    @property
    def subscribed(self) -> bool:
        return self._listener is not None

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.005)
            with contextlib.suppress(Exception):  # as aiokafka logs it, and goes on
                await self._coordinator._do_heartbeat()


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until ``condition`` holds; an error after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)
