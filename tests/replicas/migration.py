"""Replicated tables of an older release are migrated while sinks write and processes and replicas are killed.

`python -m tests.replicas.migration --seeds 10`: afterwards each host has each message once, in tables with
the new sorting key.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Self

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.schema.database import _add_columns, _present
from connectors.clickhouse.schema.migrations import migrate, pending
from connectors.clickhouse.schema.schema_lock import SchemaLock
from streams.core.errors import RetryableError
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.schema.older import (
    DEAD_SECONDS,
    SLICE_ROWS,
    Killed,
    Traffic,
    steps,
)
from tests.replicas.cluster import CLUSTER, Cluster, Replica, cluster_in
from tests.upgrade import dump

TABLES = ("logs_labeled", "logs_augmented")
_PATIENCE_SECONDS = 120.0
_SYNC_SECONDS = 10


class Life:
    """One run of `labelstream init`. ``before`` is told each statement; it may raise Killed."""

    def __init__(self, before: Callable[[str], Awaitable[None]]) -> None:
        self.before = before
        self.dead = False
        self.statements: list[str] = []


class LivingClient(ClickHouseClient):
    """A client of several hosts whose process can be killed: then nothing of it reaches any of them."""

    life: Life

    def at(self, host: Host) -> Self:
        one = super().at(host)
        one.life = self.life
        return one

    async def command(
        self,
        sql: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        query_id: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Any:
        await self._live(sql)
        answer = await super().command(sql, parameters, query_id=query_id, settings=settings)
        if self.life.dead:  # it was killed before it had the answer
            raise Killed
        return answer

    async def rows(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, skip_indexes: bool = True
    ) -> list[tuple[Any, ...]]:
        await self._live(sql)
        return await super().rows(sql, parameters, skip_indexes=skip_indexes)

    async def _live(self, sql: str) -> None:
        if self.life.dead:
            raise Killed
        self.life.statements.append(sql)
        if "schema_lock" not in sql:
            await self.life.before(sql)


async def make_old_tables(cluster: Cluster, client: ClickHouseClient, database: str) -> None:
    """The tables of 0.1.0 as somebody has made them on each host of a cluster, in the place of today's."""
    cluster.make_tables(database)
    saved = dump.load("0.1.0")
    plain = f"{database}_plain"
    await patiently(functools.partial(client.command, f"CREATE DATABASE IF NOT EXISTS {plain}"))
    for table in (one for one in saved.tables if one.name in TABLES):
        # With the columns of today, which `init` adds before anything else, so that today's sink can write.
        await client.command(table.ddl.replace(saved.name, plain))
        present = await _present(client, plain)
        await _add_columns(client, plain, table.name, present[table.name])
        path = f"'/theirs/{database}/{table.name}', '{{shard}}-{{replica}}'"
        ((made,),) = await client.rows(
            "SELECT create_table_query FROM system.tables\n"
            "WHERE database = {db:String} AND name = {name:String}",
            {"db": plain, "name": table.name},
        )
        ddl = str(made).replace(plain, database).replace("ENGINE = ", "ENGINE = Replicated", 1)
        ddl = ddl.replace("ReplacingMergeTree", f"ReplacingMergeTree({path})", 1)
        for statement in (f"DROP TABLE IF EXISTS {database}.{table.name} SYNC", ddl):
            for replica in cluster.replicas:
                replica.run(statement)
        for replica in cluster.replicas:
            replica.run(f"SYSTEM STOP MERGES {database}.{table.name}")


async def patiently(attempt: Callable[[], Awaitable[None]]) -> None:
    """Repeat ``attempt`` while a host is away, or has lost the ZooKeeper: on a busy machine it soon does."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            await attempt()
        except RetryableError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.5)
        else:
            return


class Trial:
    """One migration, in several runs of which all but the last are cut off."""

    def __init__(self, cluster: Cluster, database: str, choice: random.Random) -> None:
        self._cluster = cluster
        self._choice = choice
        self._numbers = itertools.count(100)
        self._settings = Settings(
            clickhouse_host=cluster.hosts(), clickhouse_cluster=CLUSTER, clickhouse_database=database
        )
        self._client = ClickHouseClient.from_settings(self._settings)
        self._traffic = Traffic((self._client, self._settings))

    async def run(self, cuts: int) -> list[str]:
        """What is wrong afterwards."""
        database = self._settings.result_database
        async with self._client as client:
            await make_old_tables(self._cluster, client, database)
            await self._traffic.tell(1, "new", 9)
            await self._traffic.tell(1, "old", 3)
            await self._traffic.tell_of(range(2, SLICE_ROWS + 3))
            for _ in range(cuts):
                await self._cut_off()
            await patiently(functools.partial(self._migrate, Life(self._happens)))
            if await pending(client, database):
                return ["a migration is left"]
            return await self._wrong()

    async def _cut_off(self) -> None:
        """A run that ends at some statement: its process is killed, or a replica is."""
        end, process = self._choice.randrange(120), self._choice.random() < 0.6
        killed: list[Replica] = []

        async def before(sql: str) -> None:
            if killed:
                return
            if len(life.statements) <= end:
                await self._happens(sql)
            elif process:
                life.dead = True
                if self._choice.random() < 0.5:
                    raise Killed  # else the statement still gets there
            else:
                killed.append(self._choice.choice(self._cluster.replicas))
                await asyncio.to_thread(killed[0].kill)

        life = Life(before)
        with contextlib.suppress(Killed, RetryableError):
            await self._migrate(life)
        for replica in killed:
            await asyncio.to_thread(replica.start)

    async def _happens(self, _: str) -> None:
        """What the sinks do just before a statement."""
        match self._choice.randrange(14):
            case 0:
                await self._traffic.tell(next(self._numbers), "a", 1)
            case 1:
                row, second = self._choice.randint(1, 10), self._choice.randint(0, 12)
                await self._traffic.tell(row, self._choice.choice("xyz"), second)
            case 2:
                await self._traffic.heir()
            case 3 | 4:
                self._client.hosts.leave(self._client.hosts.current, "the sinks go to another host")

    async def _migrate(self, life: Life) -> None:
        database = self._settings.result_database
        one = LivingClient.from_settings(self._settings)
        one.life = life
        keeper = one.at(min(one.hosts.every, key=str))
        lock = SchemaLock(keeper, database, beat_seconds=DEAD_SECONDS / 3, dead_seconds=DEAD_SECONDS)
        try:
            await migrate(one, database, steps(), lock=lock)
        finally:
            await one.close()
            await keeper.close()

    async def _wrong(self) -> list[str]:
        found: list[str] = []
        database = self._settings.result_database
        for replica in self._cluster.replicas:
            alone = self._settings.model_copy(update={"clickhouse_host": replica.address})
            async with ClickHouseClient.from_settings(alone) as client:
                for table in TABLES:
                    sync = f"SYSTEM SYNC REPLICA {database}.{table} LIGHTWEIGHT"
                    within = {"receive_timeout": _SYNC_SECONDS}
                    await patiently(functools.partial(client.command, sync, settings=within))
                keys = dict(
                    await client.rows(
                        "SELECT name, sorting_key FROM system.tables WHERE database = {database:String}\n"
                        "    AND startsWith(name, 'logs_') AND engine LIKE '%MergeTree'",
                        {"database": database},
                    )
                )
                if sorted(keys) != sorted(TABLES) or not all("_offset" in key for key in keys.values()):
                    found.append(f"{replica.address} has {keys}")
                try:
                    await self._traffic.check((client, alone))
                except AssertionError as error:
                    found.append(f"{replica.address}: {str(error)[:1000]}")
        return found


async def _seed(cluster: Cluster, seed: int) -> list[str]:
    return await Trial(cluster, f"seed_{seed}", random.Random(seed)).run(cuts=2)


def main() -> int:
    """Run the seeds; 1 if anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--replicas", type=int, default=2)
    options = parser.parse_args()
    failed = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        cluster_in(Path(folder), options.replicas, options.replicas) as cluster,
    ):
        for seed in range(options.first, options.first + options.seeds):
            found = asyncio.run(_seed(cluster, seed))
            told = "; ".join(found) or "migrated, each message once on each host"
            print(f"seed {seed}: {told}", flush=True)
            failed += bool(found)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
