"""Promises 4 and 5: how soon work goes on, and that an outage burns nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.ledger import read_topic
from tests.faults.world import PARTITIONS, World

AGAIN_SECONDS = 10.0
# Not the promise: how long a busy machine may take until all processes are up and at work.
READY_SECONDS = 90.0


class Running:
    """A pipeline at work, its source, and a look at what it publishes."""

    def __init__(self, parts: World, name: str, folder: Path) -> None:
        self.parts = parts
        self.name = name
        self._next = 1
        environment = parts.environment(name)
        names = ("poller-1", "agents-1", "agents-2", "sink-1")
        self.actors = {one: Actor(one, environment, folder) for one in names}
        self.folder = folder
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=parts.kafka, enable_auto_commit=False, auto_offset_reset="earliest"
        )

    async def start(self) -> None:
        await self.parts.command(f"CREATE DATABASE IF NOT EXISTS {self.name}")
        await self.parts.command(
            f"CREATE TABLE {self.name}.logs (id UInt64, query_text String, created_at DateTime, "
            "user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
        )
        await asyncio.to_thread(initialise, self.actors["sink-1"], self.folder, self.parts, self.name)
        await self._consumer.start()
        self._consumer.assign([TopicPartition(f"{self.name}.labeled", n) for n in range(PARTITIONS)])
        for actor in self.actors.values():
            actor.start()

    async def stop(self) -> None:
        await self._consumer.stop()
        for actor in self.actors.values():
            actor.ask_to_leave()
        await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in self.actors.values()))

    async def insert(self, count: int) -> set[str]:
        """New rows, each with a text of its own; returns their ids."""
        ids = range(self._next, self._next + count)
        self._next += count
        now = datetime.now(UTC)
        rows = [(number, f"где мой заказ номер {number}", now, "u") for number in ids]
        await self.parts.insert(f"{self.name}.logs", rows, ("id", "query_text", "created_at", "user_id"))
        return {str(number) for number in ids}

    async def labeled(self, ids: set[str], seconds: float, *, partitions: int = 0) -> float:
        """Wait for all of ``ids``, or for ``partitions`` partitions with any of them; how long it took."""
        began, left, met = time.monotonic(), set(ids), set()
        while (len(met) < partitions) if partitions else left:
            waited = time.monotonic() - began
            assert waited < seconds, f"{len(left)} rows left, partitions {sorted(met)} after {waited:.1f} s"
            for place, messages in (await self._consumer.getmany(timeout_ms=100)).items():
                found = {(message.key or b"").decode() for message in messages} & left
                if found:
                    met.add(place.partition)
                    left -= found
        return time.monotonic() - began

    async def dead_letters(self) -> int:
        return len(await read_topic(self.parts, f"{self.name}.dead-letter", "read_uncommitted"))


@asynccontextmanager
async def running(parts: World, name: str, folder: Path) -> AsyncIterator[Running]:
    pipeline = Running(parts, name, folder)
    try:
        await pipeline.start()
        await pipeline.labeled(await pipeline.insert(100), READY_SECONDS)
        yield pipeline
    finally:
        await parts.standin("DELETE", "/faults")
        await pipeline.stop()


@pytest.mark.timeout(240)
async def test_the_partitions_of_a_killed_worker_go_on_within_10_s(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    async with running(parts, new_name(), tmp_path) as pipeline:
        for victim in ("agents-1", "agents-2"):
            pipeline.actors[victim].kill()
            ids = await pipeline.insert(200)
            # One of the two owned four of the partitions: all eight have to move.
            took = await pipeline.labeled(ids, AGAIN_SECONDS, partitions=PARTITIONS)
            print(f"after kill -9 of {victim}: all partitions move after {took:.1f} s")
            pipeline.actors[victim].start()
            await pipeline.labeled(await pipeline.insert(100), READY_SECONDS)
            await _two_own_partitions(pipeline)


async def _two_own_partitions(pipeline: Running) -> None:
    """Wait until the worker that came back is a member, so that the next kill takes something away."""
    actor = pipeline.actors["agents-1"], pipeline.actors["agents-2"]
    deadline = time.monotonic() + READY_SECONDS
    while not all(one.log_lines('"count": 12') for one in actor):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


@pytest.mark.timeout(240)
async def test_a_model_that_is_away_costs_nothing_and_work_goes_on_within_10_s_of_its_return(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    async with running(parts, new_name(), tmp_path) as pipeline:
        await parts.standin("POST", "/faults", [{"kind": "status", "status": 503}])
        refused = await pipeline.insert(50)
        await asyncio.sleep(12)  # the outage: shorter than the soak's, long enough for all attempts there are
        await asyncio.to_thread(parts.kill, "llm")
        gone = await pipeline.insert(50)
        await asyncio.sleep(12)
        await asyncio.to_thread(parts.start, "llm")
        first = await pipeline.labeled(refused | gone, AGAIN_SECONDS, partitions=1)
        print(f"first label {first:.1f} s after the model's return")
        await pipeline.labeled((refused | gone) - await _labeled(pipeline), READY_SECONDS)
        assert await pipeline.dead_letters() == 0


async def _labeled(pipeline: Running) -> set[str]:
    messages = await read_topic(pipeline.parts, f"{pipeline.name}.labeled", "read_uncommitted")
    return {(message.key or b"").decode() for message in messages}


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seconds", [0.3, 1.5, 3.0, 6.0])
async def test_sigterm_ends_each_role_within_10_s_whenever_it_comes(
    seconds: float, parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    pipeline = Running(parts, new_name(), tmp_path)
    try:
        await pipeline.start()
        await pipeline.insert(300)
        await asyncio.sleep(seconds)  # any moment will do: in the start, in a rebalance, at work
        for actor in pipeline.actors.values():
            actor.ask_to_leave()
        took = await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in pipeline.actors.values()))
        late = [name for name, one in zip(pipeline.actors, took, strict=True) if one is None]
        assert not late
    finally:
        await pipeline.stop()
