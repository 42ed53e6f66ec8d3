"""More history than the topics keep: ``python -m tests.faults.retention --rows 20000 --seconds 20``.

Topics that keep some seconds, a table that the model takes several times as long to label, and all roles at
work: every row must be labelled once, and the poller must say whom it waits for. The agents come so late that
the first rows are gone. Exit code 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.world import PARTITIONS, World, as_program, world
from tests.short_retention import fast_deletion, keep

TOPICS = ("rows", "replay", "labeled", "labeled.shadow", "augmented", "dead-letter")
CONCURRENCY = 4
PATIENCE_SECONDS = 300.0


@dataclass
class Outcome:
    """What became of a backlog. ``deleted``: messages of the rows topic that retention took. ``waited``: the
    log lines that say for whom. ``lost``: those of the agents that say what they had not read."""

    rows: int
    kept_seconds: float
    seconds: float
    deleted: int
    waited: list[str]
    lost: list[str]
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        share = self.seconds / self.kept_seconds
        head = (
            f"{self.rows} rows in {self.seconds:.0f} s, {share:.1f} times the {self.kept_seconds:.0f} s that "
            f"are kept; {self.deleted} messages were deleted; the log said {len(self.waited)} times who "
            f"waits, {len(self.lost)} times what is lost"
        )
        return "\n".join([head, *self.wrong, *(self.waited[:3] if self.wrong else ())])


async def backlog(
    parts: World,
    name: str,
    folder: Path,
    *,
    rows: int,
    seconds: float,
    agents: int = 2,
    topics: Sequence[str] = TOPICS,
) -> Outcome:
    """Let the roles work off ``rows`` rows over ``topics`` that keep ``seconds``."""
    await parts.command(f"CREATE DATABASE {name}")
    await parts.command(
        f"CREATE TABLE {name}.logs (id UInt64, query_text String, created_at DateTime64(3, 'UTC')) "
        "ENGINE = MergeTree ORDER BY created_at"
    )
    await parts.command(
        f"INSERT INTO {name}.logs SELECT number, concat('подскажите, где мой заказ номер ', "
        f"toString(number)), now64(3) - toIntervalHour(2) - toIntervalMillisecond(({rows} - number) * 20) "
        f"FROM numbers({rows})"
    )
    environment = parts.environment(
        name,
        POLL_LOOKBACK_SECONDS="2",
        LLM_TIMEOUT_SECONDS="30",
        LLM_LABELER_CONCURRENCY=str(CONCURRENCY),
        LLM_AUGMENTER_CONCURRENCY=str(CONCURRENCY * 4),
    )
    names = ("poller-1", *(f"agents-{number + 1}" for number in range(agents)), "sink-1")
    actors = {one: Actor(one, environment, folder) for one in names}
    await asyncio.to_thread(initialise, actors["sink-1"])
    await parts.keep_doubles(name)
    for topic in topics:
        await keep(parts.kafka, f"{name}.{topic}", seconds)
    began = time.monotonic()
    try:
        actors["poller-1"].start()
        while not await first_offsets(parts, f"{name}.rows"):
            if time.monotonic() - began > PATIENCE_SECONDS:
                raise TimeoutError("the topic has lost nothing")
            await asyncio.sleep(0.3)  # each look is a consumer
        for actor in actors.values():
            actor.start()
        found = 0
        moved = began
        while found < 2 * rows and time.monotonic() - moved < PATIENCE_SECONDS:
            await asyncio.sleep(0.5)
            now = 0
            for table in ("logs_labeled", "logs_augmented"):
                ((count,),) = await parts.query(f"SELECT uniqExact(row_id) FROM {name}.{table}")
                now += count
            if now > found:
                found, moved = now, time.monotonic()
        took = time.monotonic() - began
        await asyncio.sleep(2)  # what comes twice comes soon after
    finally:
        await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in actors.values()))
    deleted = await first_offsets(parts, f"{name}.rows")
    again = await offsets(parts, f"{name}.rows", end=True) - rows
    waited = actors["poller-1"].log_lines("waits_for_readers", 1000)
    lost = [
        line for number in range(agents) for line in actors[f"agents-{number + 1}"].log_lines("messages_lost")
    ]
    outcome = Outcome(rows, seconds, took, deleted, waited, lost)
    for table in ("logs_labeled", "logs_augmented"):
        counts = Counter(
            dict(await parts.query(f"SELECT row_id, count() FROM {name}.{table} GROUP BY row_id"))
        )
        if missing := [number for number in range(rows) if not counts[str(number)]]:
            outcome.wrong.append(f"{table}: {len(missing)} rows are missing, such as {missing[:5]}")
        if doubled := [row_id for row_id, count in counts.items() if count > 1]:
            outcome.wrong.append(f"{table}: {len(doubled)} rows are there twice, such as {doubled[:5]}")
    ((letters,),) = await parts.query(f"SELECT count() FROM {name}.dead_letters")
    if letters:
        outcome.wrong.append(f"{letters} dead letters")
    if not waited:
        outcome.wrong.append("nobody said that it waits")
    if again > 0.8 * rows:
        outcome.wrong.append(f"the poller did not wait: {again} rows were lost, and published again")
    if not lost:
        outcome.wrong.append("nobody said what is lost")
    return outcome


async def first_offsets(parts: World, topic: str) -> int:
    """Messages of ``topic`` that are there no more."""
    return await offsets(parts, topic)


async def offsets(parts: World, topic: str, *, end: bool = False) -> int:
    """The sum of the first, or of the next, offsets of its partitions."""
    consumer = AIOKafkaConsumer(bootstrap_servers=parts.kafka)
    await consumer.start()
    try:
        places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        found = await (consumer.end_offsets(places) if end else consumer.beginning_offsets(places))
        return sum(found.values())
    finally:
        await consumer.stop()


async def _soak(folder: Path, rows: int, seconds: float) -> Outcome:
    with fast_deletion(), world(folder / "stack") as parts:
        return await backlog(parts, "long", folder, rows=rows, seconds=seconds)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.retention", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="that the topics keep")
    given = parser.parse_args()
    as_program()
    with tempfile.TemporaryDirectory(prefix="labelstream-retention-") as folder:
        outcome = asyncio.run(_soak(Path(folder), given.rows, given.seconds))
        print(outcome)
        if outcome.seconds < 3 * outcome.kept_seconds:
            outcome.wrong.append("the model was too fast for it: give more rows, or fewer seconds")
            print(outcome.wrong[-1])
    sys.exit(1 if outcome.wrong else 0)


if __name__ == "__main__":
    main()
