"""Memory of each role with a small and with a large backlog: ``python -m tests.faults.backlog``.

The poller first, then the agents, then the sink, each alone and with all rows waiting for it. A role's
resident size is looked at all the time it works; what counts is the largest. Exit code 1 where the large
backlog's is more than 50 MB above the small one's.

The agents are left to it for some minutes only: a million rows would take them half an hour. What they did
not get to is then copied from what they made, so that the sink has all of it before it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.world import PARTITIONS, World, as_program, world

ALLOWED_MB = 50
TEXTS = 5000
_MB = 2**20


async def one(
    parts: World, name: str, rows: int, folder: Path, agents_seconds: float
) -> dict[str, list[float]]:
    """The resident sizes of each role, MB, twice a second while it works off ``rows`` rows."""
    await parts.command(f"CREATE DATABASE IF NOT EXISTS {name}")
    await parts.command(
        f"CREATE TABLE {name}.logs (id UInt64, query_text String, created_at DateTime64(3, 'UTC'), "
        "user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at"
    )
    await parts.command(
        f"INSERT INTO {name}.logs SELECT number, concat('подскажите, где мой заказ номер ', "
        f"toString(number % {TEXTS})), now64(3) - toIntervalHour(2) "
        f"- toIntervalMillisecond({rows} - number), concat('u', toString(number % 5000)) FROM numbers({rows})"
    )
    environment = parts.environment(name, POLL_LOOKBACK_SECONDS="600", LLM_TIMEOUT_SECONDS="30")
    roles = {role: Actor(f"{role}-1", environment, folder) for role in ("poller", "agents", "sink")}
    await asyncio.to_thread(folder.mkdir, parents=True)
    await asyncio.to_thread(initialise, roles["poller"])
    sizes: dict[str, list[float]] = {}

    ends = {
        "poller": (lambda: published(parts, f"{name}.rows"), rows),
        "agents": (lambda: published(parts, f"{name}.augmented"), rows),
        "sink": (lambda: committed(parts, f"{name}-sink"), 2 * rows),
    }
    for role, actor in roles.items():
        done, wanted = ends[role]
        actor.start()
        began, seen, count = time.monotonic(), sizes.setdefault(role, []), 0
        try:
            while count < wanted and not (role == "agents" and time.monotonic() - began > agents_seconds):
                assert actor.running, f"{role} ended; see {actor.log}"
                for _ in range(4):
                    seen.append(actor.rss / _MB)
                    await asyncio.sleep(0.5)
                count = await done()
            took = time.monotonic() - began
        finally:
            await asyncio.to_thread(actor.leave)
        step = max(1, len(seen) // 12)
        shown = " ".join(f"{size:.0f}" for size in seen[::step])
        did = f"{min(count, wanted)} of {wanted} in {took:.0f} s"
        print(f"{rows} rows, {role}: {did}, largest {max(seen):.0f} MB; {shown}", flush=True)
        if role == "agents":
            for topic in (f"{name}.labeled", f"{name}.augmented"):
                await multiply(parts, topic, rows)
    return sizes


async def published(parts: World, topic: str) -> int:
    """Messages in ``topic``, by its offsets."""
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.kafka)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)])
        return sum(ends.values())
    finally:
        await consumer.stop()


async def committed(parts: World, group: str) -> int:
    """Messages that ``group`` is done with. Not counted in the tables: they merge copies into one."""
    admin = AIOKafkaAdminClient(bootstrap_servers=parts.kafka)
    await admin.start()
    try:
        found = await admin.list_consumer_group_offsets(group)
        return sum(max(0, one.offset) for one in found.values())
    finally:
        await admin.close()


async def multiply(parts: World, topic: str, count: int) -> None:
    """Append copies of what ``topic`` holds until it holds ``count`` messages."""
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.kafka, auto_offset_reset="earliest")
    producer = AIOKafkaProducer(
        bootstrap_servers=parts.kafka, enable_idempotence=True, max_batch_size=900_000
    )
    await consumer.start()
    await producer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(places)
        left = count - sum((await consumer.end_offsets(places)).values())
        await consumer.seek_to_beginning(*places)
        while left > 0:  # copies are read, and copied, in their turn
            for place, messages in (await consumer.getmany(timeout_ms=1000)).items():
                batch = producer.create_batch()
                for message in messages[: max(0, left)]:
                    headers = list(message.headers)
                    if batch.append(key=message.key, value=message.value, timestamp=None, headers=headers):
                        left -= 1
                batch.close()
                if batch.record_count():
                    await (await producer.send_batch(batch, topic, partition=place.partition))
    finally:
        await producer.stop()
        await consumer.stop()


async def both(small: int, large: int, folder: Path, agents_seconds: float) -> bool:
    """Whether every role's memory is the same with both backlogs."""
    with world(folder / "stack") as parts:
        few = await one(parts, "few", small, folder / "few", agents_seconds)
        many = await one(parts, "many", large, folder / "many", agents_seconds)
    flat = True
    for role in few:
        growth = max(many[role]) - max(few[role])
        flat = flat and growth <= ALLOWED_MB
        print(f"{role}: {max(few[role]):.0f} MB at {small}, {max(many[role]):.0f} at {large}: {growth:+.0f}")
    return flat


def main() -> None:
    """Parse the arguments and measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.backlog", description=__doc__)
    parser.add_argument("--small", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument(
        "--agents-seconds", type=float, default=300.0, help="how long the agents work at most"
    )
    given = parser.parse_args()
    as_program()
    with tempfile.TemporaryDirectory(prefix="labelstream-backlog-") as folder:
        sys.exit(0 if asyncio.run(both(given.small, given.large, Path(folder), given.agents_seconds)) else 1)


if __name__ == "__main__":
    main()
