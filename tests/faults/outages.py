"""Outages of each dependency, and how soon work goes on after the return.

The tests use short ones; ``python -m tests.faults.outages --seconds 120`` makes each as long as asked and
prints what was seen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.ledger import read_topic
from tests.faults.world import PARTITIONS, World, as_program, world
from tests.waiting import MachineClock, Watch

AGAIN_SECONDS = 10.0
PARTS = ("llm", "clickhouse", "kafka")


@dataclass(frozen=True)
class Outage:
    """What an outage did: seconds from the part's return until the first new result and until all of them."""

    first: float
    all: float
    dead_letters: int


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
        await asyncio.to_thread(initialise, self.actors["sink-1"])
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

    async def labeled(self, ids: set[str], *, within: float = math.inf, partitions: int = 0) -> float:
        """Wait for all of ``ids``, or for ``partitions`` partitions with any of them; how long it took."""
        clock, left, met = MachineClock(), set(ids), set()
        watch = Watch("all rows labelled")
        while (len(met) < partitions) if partitions else left:
            waited = clock.seconds()
            assert waited < within, f"{len(left)} rows left, partitions {sorted(met)} after {waited:.1f} s"
            watch.look(len(left))
            for place, messages in (await self._consumer.getmany(timeout_ms=100)).items():
                found = {(message.key or b"").decode() for message in messages} & left
                if found:
                    met.add(place.partition)
                    left -= found
        return clock.seconds()

    async def stored(self, ids: set[str], *, any_of: bool = False) -> float:
        """Wait until the table holds all of ``ids``, or any of them; how long it took."""
        clock = MachineClock()
        watch = Watch("all rows stored")
        sql = f"SELECT uniqExact(row_id) FROM {self.name}.logs_labeled WHERE row_id IN {{ids:Array(String)}}"
        while True:
            ((found,),) = await self.parts.query(sql, {"ids": sorted(ids)})
            waited = clock.seconds()
            if found >= (1 if any_of else len(ids)):
                return waited
            watch.look(found)
            await asyncio.sleep(0.1)

    async def dead_letters(self) -> int:
        return len(await read_topic(self.parts, f"{self.name}.dead-letter", "read_uncommitted"))


@asynccontextmanager
async def running(parts: World, name: str, folder: Path) -> AsyncIterator[Running]:
    pipeline = Running(parts, name, folder)
    try:
        await pipeline.start()
        await pipeline.labeled(await pipeline.insert(100))
        yield pipeline
    finally:
        await pipeline.stop()
        with contextlib.suppress(Exception):  # the model may be away
            await parts.standin("DELETE", "/faults")


async def outage(pipeline: Running, part: str, seconds: float) -> Outage:
    """Take ``part`` away for so long, with rows on their way, and look at what happens on its return.

    The model first answers 503 for half of the time, then it is gone. The first result is a label; after
    ClickHouse's return, where rows that Kafka holds are labelled all the time, it is a stored one.
    """
    parts = pipeline.parts
    if part == "llm":
        await parts.standin("POST", "/faults", [{"kind": "status", "status": 503}])
    else:
        await asyncio.to_thread(parts.kill, part)
    ids = set() if part == "clickhouse" else await pipeline.insert(50)
    await asyncio.sleep(seconds / 2)
    if part == "llm":
        await asyncio.to_thread(parts.kill, part)
        ids |= await pipeline.insert(50)
    await asyncio.sleep(seconds / 2)
    await asyncio.to_thread(parts.start, part)
    clock = MachineClock()
    if part == "clickhouse":
        ids = await pipeline.insert(50)
        first = await pipeline.stored(ids, any_of=True)
    else:
        first = await pipeline.labeled(ids, partitions=1)
    await pipeline.stored(ids)
    return Outage(first, clock.seconds(), await pipeline.dead_letters())


async def _all(seconds: float, names: list[str]) -> bool:
    kept = True
    with tempfile.TemporaryDirectory(prefix="labelstream-outages-") as folder, world(Path(folder)) as parts:
        for part in names:
            roles = Path(folder) / f"roles-{part}"
            roles.mkdir()
            async with running(parts, f"outage_{part}", roles) as pipeline:
                seen = await outage(pipeline, part, seconds)
            kept = kept and seen.first <= AGAIN_SECONDS and not seen.dead_letters
            print(
                f"{part} away for {seconds:.0f} s: first result {seen.first:.1f} s after its return, "
                f"all {seen.all:.1f} s, {seen.dead_letters} dead letters",
                flush=True,
            )
    return kept


def main() -> None:
    """Parse the arguments and play the outages."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.outages", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of each outage")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this one; may be repeated")
    given = parser.parse_args()
    as_program()
    sys.exit(0 if asyncio.run(_all(given.seconds, given.part or list(PARTS))) else 1)


if __name__ == "__main__":
    main()
