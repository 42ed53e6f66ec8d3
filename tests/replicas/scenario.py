"""Sinks store into replicas that die, lag and lose each other; then every message is there once on each.

`python -m tests.replicas.scenario --seeds 10` runs it on replicas of its own. On a real cluster:
`--hosts a,b,c --cluster NAME --database SCRATCH` with CLICKHOUSE_USERNAME and CLICKHOUSE_PASSWORD; then
owners change as there, and whoever runs it kills hosts meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.sink.sink import Sink, writer_for
from streams.core.errors import LabelstreamError, LeaseLostError, UnavailableError
from streams.core.records import Commit, Partition
from streams.core.settings import Settings
from tests.replicas.cluster import Cluster, cluster_in
from tests.unit.connectors.clickhouse.sink.fakes import (
    L0,
    L1,
    TOPICS,
    FakeInput,
    FakeKafka,
    FakeLease,
    labeled,
)

# A part that may have to be removed is five minutes old before.
_PATIENCE_SECONDS = 420.0
_SYNC_SECONDS = 10
_FETCHED = 25

Fault = Callable[[], Awaitable[None]]


class Owners:
    """The members of a group, one after the other, which store the messages of two partitions."""

    def __init__(self, settings: Settings, rows: int, choice: random.Random) -> None:
        self._settings = settings
        self._sizes = random.Random(choice.random())
        self._kafka = FakeKafka()
        self._committed: dict[Partition, Commit] = {}
        self._lease = FakeLease(0)
        self.clients: list[ClickHouseClient] = []
        self.sinks: list[Sink] = []
        for number in range(rows):
            self._kafka.publish(labeled(number), TOPICS.labeled, number % 2)

    async def own(
        self, hosts: Sequence[str], *, commits: bool = True
    ) -> tuple[asyncio.Task[None], FakeInput]:
        """A new owner, which prefers the first of ``hosts``. Whoever was it before no longer is. One that
        does not commit leaves all that it has stored to be looked for by the next.
        """
        generation = self._lease.generation + 1
        self._lease.generation = generation  # the former one's next look at its lease fails
        settings = self._settings.model_copy(update={"clickhouse_host": ",".join(hosts)})
        client = ClickHouseClient.from_settings(settings)
        writer = writer_for(settings, client)
        self.clients += [client, writer]
        source = FakeInput(self._kafka, [L0, L1], self._committed)
        fetch = source.fetch

        async def some(*, seconds: float, most: int) -> Any:
            await asyncio.sleep(0.05)  # so that there are many inserts
            return await fetch(seconds=seconds, most=self._sizes.randint(1, _FETCHED))

        async def lost(positions: Mapping[Partition, Commit]) -> None:
            """It dies before each commit."""

        source.fetch = some  # type: ignore[method-assign]
        if not commits:
            source.commit = lost  # type: ignore[method-assign]
        sink = Sink(
            client,
            settings.result_database,
            TOPICS,
            sender=self._kafka,
            tail=self._kafka,
            topic_ids=self._kafka,
            lease=self._lease,
            writer=writer,
        )
        self.sinks.append(sink)
        return asyncio.create_task(sink.run(source, source.committed, generation)), source

    async def close(self) -> None:
        for sink in self.sinks:
            await sink.close()
        for client in self.clients:
            await client.close()


async def run_seed(
    settings: Settings, hosts: Sequence[str], choice: random.Random, rows: int, faults: Sequence[Fault]
) -> Counter[str]:
    """Store ``rows`` messages while ``faults`` are carried out, one after the other, and owners change.
    Returns what the sinks counted.
    """
    owners = Owners(settings, rows, choice)
    deadline, left = time.monotonic() + _PATIENCE_SECONDS, list(faults)
    try:
        while True:
            first = choice.randrange(len(hosts))
            commits = choice.random() < 0.3 or not left
            task, source = await owners.own([*hosts[first:], *hosts[:first]], commits=commits)
            for _ in range(choice.randint(1, 3)):
                await asyncio.sleep(choice.uniform(0.1, 0.8))
                if left:
                    await left.pop(0)()
            while not left and commits and source.lag:
                if task.done() or time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, LeaseLostError):
                await task
            if not source.lag and not left:
                return sum((sink.counts for sink in owners.sinks), Counter())
            if time.monotonic() > deadline:
                raise AssertionError(f"{source.lag} messages are not stored")
    finally:
        await owners.close()


def faults_of(cluster: Cluster, choice: random.Random, count: int) -> list[Fault]:
    """Faults by ``choice``; after the last of them every replica runs, and hands its parts over."""

    def kill(number: int, *, held: bool, seconds: float) -> Fault:
        async def fault() -> None:
            replica = cluster.replicas[number]
            replica.hold(held)  # then nobody has what it stores from now on
            await asyncio.sleep(choice.uniform(0.1, 0.5))
            await asyncio.to_thread(replica.kill)
            await asyncio.sleep(seconds)
            replica.hold(False)
            await asyncio.to_thread(replica.start)

        return fault

    def pause(number: int, seconds: float) -> Fault:
        async def fault() -> None:
            cluster.replicas[number].pause(True)
            await asyncio.sleep(seconds)
            cluster.replicas[number].pause(False)

        return fault

    def keeperless(seconds: float) -> Fault:
        async def fault() -> None:
            # Longer than a session: an insert that has written its part may never be told to anybody.
            cluster.pause_keeper(True)
            await asyncio.sleep(seconds)
            cluster.pause_keeper(False)

        return fault

    def lag(number: int, seconds: float) -> Fault:
        async def fault() -> None:
            cluster.replicas[number].slow(seconds)

        return fault

    found: list[Fault] = []
    for _ in range(count):
        number = choice.randrange(len(cluster.replicas))
        kind = choice.choice(("kill", "kill", "pause", "lag", "keeper"))
        if kind == "kill":
            found.append(kill(number, held=choice.random() < 0.7, seconds=choice.uniform(0.5, 4)))
        elif kind == "pause":
            found.append(pause(number, choice.uniform(1, 6)))
        elif kind == "keeper":
            found.append(keeperless(choice.uniform(5, 10)))
        else:
            found.append(lag(number, choice.uniform(0.2, 1)))
    return found


async def wrong(settings: Settings, hosts: Sequence[str], rows: int) -> list[str]:
    """What is lost or doubled on any of ``hosts``, without FINAL."""
    found: list[str] = []
    for host in hosts:
        alone = settings.model_copy(update={"clickhouse_host": host})
        async with ClickHouseClient.from_settings(alone) as client:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while True:
                try:
                    # Each try is bounded: whoever waits on a replica that loses the ZooKeeper waits in vain.
                    await client.command(
                        f"SYSTEM SYNC REPLICA {settings.result_database}.logs_labeled",
                        settings={"receive_timeout": _SYNC_SECONDS},
                    )
                    # What it shows and the others do not know of, it removes after five minutes.
                    ((unknown,),) = await client.rows(
                        "SELECT sum(parts_to_check) FROM system.replicas WHERE database = {db:String}",
                        {"db": settings.result_database},
                    )
                    if int(unknown):
                        raise UnavailableError(f"{unknown} parts are to be checked", setting="")
                    break
                except LabelstreamError as error:
                    if time.monotonic() > deadline:
                        why = await client.rows(
                            "SELECT name, last_error_message FROM system.errors\n"
                            "ORDER BY last_error_time DESC LIMIT 5"
                        )
                        raise AssertionError(f"{host} does not catch up: {why}") from error
                    await asyncio.sleep(0.5)
            ((stored, places, most),) = await client.rows(
                "SELECT sum(times), count(), max(times) FROM (\n"
                f"SELECT count() AS times FROM {settings.result_database}.logs_labeled\n"
                "GROUP BY _topic_id, _partition, _offset)"
            )
            if (int(stored), int(places), int(most)) != (rows, rows, 1):
                found.append(f"{host}: {places} of {rows} messages, {stored} rows, one of them {most} times")
    return found


async def _own_cluster(seed: int, replicas: int, shards: int, rows: int, faults: int) -> list[str]:
    choice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder, cluster_in(Path(folder), replicas, shards) as cluster:
        cluster.make_tables("res")
        settings = Settings(clickhouse_database="res")
        hosts = cluster.hosts().split(",")
        counts = await run_seed(settings, hosts, choice, rows, faults_of(cluster, choice, faults))
        print(f"seed {seed}: inserts {counts['inserts']}, retries {counts['retries']}", flush=True)
        return await wrong(settings, hosts, rows)


async def _real_cluster(seed: int, options: argparse.Namespace) -> list[str]:
    hosts = options.hosts.split(",")
    settings = Settings(
        clickhouse_host=options.hosts,
        clickhouse_cluster=options.cluster,
        clickhouse_database=f"{options.database}_{seed}",
    )
    async with ClickHouseClient.from_settings(settings) as client:
        await create_tables(client, settings)

    async def nothing() -> None:
        """Whoever runs it kills hosts."""

    await run_seed(settings, hosts, random.Random(seed), options.rows, [nothing] * options.faults)
    return await wrong(settings, hosts, options.rows)


def main() -> int:
    """Run the seeds; 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--faults", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--shards", type=int, default=1, help="that the replicas are on")
    parser.add_argument("--hosts", help="of a real cluster, with commas in between")
    parser.add_argument(
        "--cluster", help="its name in system.clusters; none for a Replicated database or Cloud"
    )
    parser.add_argument("--database", default="labelstream_seed", help="the seed's number is appended")
    options = parser.parse_args()
    failed = 0
    for seed in range(options.first, options.first + options.seeds):
        if options.hosts:
            found = asyncio.run(_real_cluster(seed, options))
        else:
            found = asyncio.run(
                _own_cluster(seed, options.replicas, options.shards, options.rows, options.faults)
            )
        print(f"seed {seed}: {'; '.join(found) or 'each message once on each replica'}", flush=True)
        failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
