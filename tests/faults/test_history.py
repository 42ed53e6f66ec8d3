"""A poller that dies while it publishes history in bulk: each row once, wherever that was."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.ledger import read_topic
from tests.faults.world import PARTITIONS, World
from tests.waiting import Watch

ROWS = 90_000
STEP = 7_000


async def test_history_is_published_once_through_kills_and_a_pause(
    parts: World, new_name: Callable[[], str], tmp_path: Path
) -> None:
    name = new_name()
    await parts.command(f"CREATE DATABASE {name}")
    await parts.command(
        f"CREATE TABLE {name}.logs (id UInt64, query_text String, created_at DateTime64(3, 'UTC')) "
        "ENGINE = MergeTree ORDER BY created_at"
    )
    # Every tenth text is one that ClickHouse leaves to the poller.
    await parts.command(
        f"INSERT INTO {name}.logs SELECT number, concat('где мой заказ ', toString(number), "
        "if(number % 10 = 0, ' 🙂', '')), now64(3) - toIntervalHour(2) "
        f"- toIntervalMillisecond({ROWS} - number) FROM numbers({ROWS})"
    )
    pollers = [
        Actor(f"poller-{number}", parts.environment(name, POLL_LOOKBACK_SECONDS="600"), tmp_path)
        for number in (1, 2)
    ]
    await asyncio.to_thread(initialise, pollers[0])
    places = [TopicPartition(f"{name}.rows", number) for number in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.kafka, enable_auto_commit=False)
    await consumer.start()

    async def published() -> int:
        return sum((await consumer.end_offsets(places)).values())

    async def grows(to: int) -> int:
        watch = Watch(f"{to} rows published")
        while (count := await published()) < to:
            watch.look(count)
            await asyncio.sleep(0.02)
        return count

    try:
        one, other = pollers
        one.start()
        at_work = [await grows(1)]
        one.kill()
        other.start()
        at_work.append(await grows(await published() + STEP))
        paused = other.pause()
        one.start()
        at_work.append(await grows(await published() + STEP))
        other.resume(paused)  # with a page half sent, and a lease that is another's
        one.kill()
        at_work.append(await grows(await published() + STEP))
        # While a page of it is on its way to Kafka: it may be the last one, and be published meanwhile.
        await asyncio.to_thread(parts.kill, "clickhouse")
        await asyncio.to_thread(parts.start, "clickhouse")
        await grows(min(ROWS, await published() + 1))  # it may have published the rest meanwhile
        other.kill()
        one.start()
        await grows(ROWS)
        await asyncio.sleep(2)  # what is published twice comes soon after
    finally:
        await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in pollers))
        await consumer.stop()
    print(f"faults after {at_work} of {ROWS} rows")
    assert max(at_work) < ROWS
    times = Counter(
        int(message.key) for message in await read_topic(parts, f"{name}.rows", "read_uncommitted")
    )
    assert len(times) == ROWS
    assert set(times.values()) == {1}
