"""One partition without a leader, under the roles as processes: only its own rows wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from connectors.kafka.tail import TailReader
from streams.core.errors import UnavailableError
from streams.core.records import Partition
from streams.core.topics import partition_of
from tests.cluster import BROKERS, Cluster
from tests.faults.actors import Actor
from tests.faults.cluster.runs import ClusterWorld, cluster_world
from tests.faults.driver import initialise
from tests.faults.world import PARTITIONS
from tests.waiting import eventually

_BROKER = 3
_LOST = 1  # this partition of one topic, which that broker alone has
_OFFSETS = "__consumer_offsets"
_STEP = 160
_ROLES = ("poller-1", "agents-1", "agents-2", "sink-1")


def _text(number: int) -> str:
    return f"где мой заказ номер {number}"


class Run:
    """A source table, the topics and the roles of one run. ``topic``: the one that loses a partition."""

    def __init__(
        self,
        world: ClusterWorld,
        name: str,
        folder: Path,
        topic: str = "labeled",
        roles: tuple[str, ...] = _ROLES,
    ) -> None:
        environment = world.environment(name)
        self.actors = {one: Actor(one, environment, folder) for one in roles}
        self._world = world
        self._name = name
        self._topic = f"{name}.{topic}"
        self._labels = f"{name}.labeled"
        self._tail = TailReader({"bootstrap_servers": world.kafka})
        self.rows = 0

    async def prepare(self) -> None:
        cluster = self._world.cluster
        places = {number: [1, 2] for number in range(PARTITIONS)}
        await asyncio.to_thread(cluster.create, self._topic, places, {"min.insync.replicas": "1"})
        await cluster.reassign({self._topic: [_BROKER]}, [_LOST])
        await self._until(lambda: cluster.places(self._topic)[_LOST].replicas == (_BROKER,))
        await self._world.command(f"CREATE DATABASE {self._name}")
        await self._world.command(
            f"CREATE TABLE {self._name}.logs (id UInt64, query_text String, "
            "created_at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY created_at"
        )
        await asyncio.to_thread(initialise, next(iter(self.actors.values())))

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        for actor in self.actors.values():
            actor.start()
        try:
            yield
        finally:
            for actor in self.actors.values():
                actor.ask_to_leave()
            await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in self.actors.values()))

    async def insert(self) -> None:
        """So many more rows, over all partitions."""
        now = datetime.now(UTC)
        rows = [[n, _text(n), now] for n in range(self.rows, self.rows + _STEP)]
        await self._world.insert(f"{self._name}.logs", rows, ("id", "query_text", "created_at"))
        self.rows += _STEP

    async def coordinators(self, *brokers: int) -> None:
        """Let these brokers coordinate the groups, so that the loss of another is no fault of the groups."""
        cluster = self._world.cluster
        await cluster.reassign({_OFFSETS: brokers})
        await self._until(
            lambda: (
                all(place.replicas == brokers for place in cluster.places(_OFFSETS).values())
                and cluster.in_sync([_OFFSETS])
            )
        )

    @asynccontextmanager
    async def coordinated_by_others(self) -> AsyncIterator[None]:
        """Meanwhile the broker that is killed coordinates no group; then all are whole again."""
        await self.coordinators(*(one for one in BROKERS if one != _BROKER))
        try:
            yield
        finally:
            await asyncio.to_thread(self._world.cluster.repair)
            await self.coordinators(*BROKERS)

    async def _until(self, condition: Callable[[], bool]) -> None:
        await asyncio.to_thread(self._world.cluster.wait_for, condition, "these replicas")

    async def labelled(self, *partitions: int) -> None:
        """Wait until every row of these partitions is labelled."""
        seen: dict[str, int] = {}

        async def whole() -> bool:
            try:
                rows = await self._ends(f"{self._name}.rows", range(PARTITIONS))
                labels = await self._ends(self._labels, partitions)
            except UnavailableError:
                return False  # leaders are changing
            seen.update(rows=sum(rows.values()), labels=sum(labels.values()))
            return seen["rows"] == self.rows and all(labels[n] == rows[n] for n in partitions)

        await eventually(whole, "these partitions labelled", measure=lambda: dict(seen), pause=0.3)

    async def published(self, *partitions: int) -> None:
        """Wait until every row of these partitions is on the rows topic."""
        wanted = Counter(partition_of(_text(n), PARTITIONS) for n in range(self.rows))
        seen: dict[int, int] = {}

        async def whole() -> bool:
            try:
                seen.update(await self._ends(f"{self._name}.rows", partitions))
            except UnavailableError:
                return False  # leaders are changing
            return seen == {number: wanted[number] for number in partitions}

        await eventually(whole, "these partitions published", measure=lambda: dict(seen), pause=0.3)

    async def _ends(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        found = await self._tail.bounds_many([Partition(topic, number) for number in partitions])
        return {where.partition: end for where, (_, end) in found.items()}

    async def stored(self, table: str) -> None:
        """Wait until every row is in ``table``, and see that it is there once."""
        found: list[tuple[str, int]] = []

        async def whole() -> bool:
            found[:] = await self._world.query(  # type: ignore[arg-type]
                f"SELECT row_id, count() FROM {self._name}.{table} GROUP BY row_id"
            )
            return len(found) == self.rows

        await eventually(whole, f"all in {table}", measure=lambda: len(found), pause=0.5)
        assert Counter(dict(found)) == {str(n): 1 for n in range(self.rows)}

    async def keys(self) -> Counter[bytes | None]:
        places = {Partition(self._topic, n): 0 for n in range(PARTITIONS)}
        return Counter([one.key async for found in self._tail.read_many(places) for one in found])

    def held(self) -> list[Actor]:
        """Who has said that it holds a partition."""
        return [actor for actor in self.actors.values() if actor.log_lines("partitions_held")]

    def assignments(self) -> dict[str, int]:
        """How often each worker was given partitions."""
        return {
            name: len(actor.log_lines("partitions_assigned", 1000))
            for name, actor in self.actors.items()
            if actor.role == "agents"
        }


async def test_a_partition_without_a_leader_stops_neither_worker_nor_group(
    cluster: Cluster, new_name: Callable[[], str], tmp_path: Path
) -> None:
    others = [n for n in range(PARTITIONS) if n != _LOST]
    with cluster_world(tmp_path / "stack", cluster) as world:
        run = Run(world, new_name(), tmp_path)
        await run.prepare()
        async with run.at_work():
            await run.insert()
            await run.labelled(*range(PARTITIONS))
            async with run.coordinated_by_others():
                await run.insert()
                await run.labelled(*range(PARTITIONS))
                pids, assignments = {a.name: a.pid for a in run.actors.values()}, run.assignments()
                assert sum(assignments.values()) >= 2
                await asyncio.to_thread(cluster.kill, _BROKER)
                for _ in range(2):
                    await run.insert()
                    await run.labelled(*others)
                await eventually(run.held, "a worker says which partition it holds", pause=0.2)
                assert run.assignments() == assignments
                await asyncio.to_thread(cluster.start, _BROKER)
                await run.labelled(*range(PARTITIONS))
                await run.stored("logs_labeled")
                await run.stored("logs_augmented")
                assert {a.name: a.pid for a in run.actors.values() if a.running} == pids
                assert run.assignments() == assignments
    assert await run.keys() == Counter(str(n).encode() for n in range(run.rows))


async def test_a_partition_of_the_rows_without_a_leader_keeps_no_other_rows_in_the_table(
    cluster: Cluster, new_name: Callable[[], str], tmp_path: Path
) -> None:
    others = [n for n in range(PARTITIONS) if n != _LOST]
    with cluster_world(tmp_path / "stack", cluster) as world:
        run = Run(world, new_name(), tmp_path, "rows", ("poller-1",))
        await run.prepare()
        poller = run.actors["poller-1"]
        async with run.at_work():
            await run.insert()
            await run.published(*range(PARTITIONS))
            async with run.coordinated_by_others():
                pid = poller.pid
                await asyncio.to_thread(cluster.kill, _BROKER)
                for _ in range(2):
                    await run.insert()
                    await run.published(*others)
                await eventually(run.held, "the poller says which partition it holds", pause=0.2)
                await run.insert()
                await run.published(*others)
                await asyncio.to_thread(cluster.start, _BROKER)
                await run.published(*range(PARTITIONS))
                await run.insert()
                await run.published(*range(PARTITIONS))
                assert (poller.pid, len(poller.log_lines("poller_begins", 1000))) == (pid, 1)
                # One that leaves while it holds rows, and the next one, leave none out and write none twice.
                await asyncio.to_thread(cluster.kill, _BROKER)
                await run.insert()
                await run.published(*others)
                await asyncio.to_thread(poller.leave)
                await asyncio.to_thread(cluster.start, _BROKER)
                poller.start()
                await run.published(*range(PARTITIONS))
    assert await run.keys() == Counter(str(n).encode() for n in range(run.rows))
