"""Two replicas of the real engine: one dies with what the other lacks. `make soak-replicas` runs seeds."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import random
from pathlib import Path

import pytest

from connectors.clickhouse.client import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.schema.topology import look_at_every_host
from connectors.clickhouse.sink import insert_end
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from tests.replicas.cluster import CLUSTER, cluster_in
from tests.replicas.scenario import Owners, wrong
from tests.waiting import eventually

_ROWS = 120


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the engine's functions are known for x86-64 only")
async def test_what_only_a_dead_replica_has_is_not_stored_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one that is waited for is dead, and a look need not wait for long.
    monkeypatch.setattr(insert_end, "_LONGEST", 0.0)
    monkeypatch.setattr(insert_end, "LAST_SECONDS", 0.0)
    monkeypatch.setattr(catch_up, "_SECONDS", 1)
    # Of two shards, and yet replicas of one table.
    with cluster_in(tmp_path, 2, shards=2) as cluster:
        cluster.make_tables("res")
        settings = Settings(
            clickhouse_host=cluster.hosts(), clickhouse_cluster=CLUSTER, clickhouse_database="res"
        )
        # As a replica that is new: it lacks a table, which `init` makes there.
        cluster.replicas[1].run("DROP TABLE res.erasures SYNC")
        async with ClickHouseClient.from_settings(settings) as client:
            await create_tables(client, settings)

            async def found() -> str:
                with contextlib.suppress(ConfigurationError):  # a new table may be read-only for a moment
                    return await look_at_every_host(client, settings)
                return ""

            told = f"2 replicas of the cluster {CLUSTER}, on all 2 shards"
            assert await eventually(found, "the new table is ready") == told
        one, other = cluster.hosts().split(",")
        dying = cluster.replicas[0]
        owners = Owners(settings, _ROWS, random.Random(1))
        try:
            dying.hold(True)
            former, _ = await owners.own([one, other], commits=False)
            await eventually(lambda: owners.sinks[0].counts["inserts"] >= 2, "some messages are stored")
            await asyncio.to_thread(dying.kill)
            heir, source = await owners.own([other, one])
            hosts, sink = owners.clients[-1].hosts, owners.sinks[-1]
            # It has found that this host lacks something, or stores what it believes to be missing.
            await eventually(lambda: hosts.moves or sink.counts["inserts"], "the heir has looked")
            dying.hold(False)
            await asyncio.to_thread(dying.start)
            await eventually(lambda: heir.done() or not source.lag, "all messages are stored")
            for task in (former, heir):
                task.cancel()
            await asyncio.wait([former, heir])
        finally:
            await owners.close()
        assert await wrong(settings, [one, other], _ROWS) == []
