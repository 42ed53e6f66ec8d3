"""What ClickHouse is found to be, and what is refused because a message could be stored twice there."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Hosts, parse_hosts
from connectors.clickhouse.schema.topology import EVERY, Kind, look_at
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

_REPLICATED = dict.fromkeys(EVERY, "ReplicatedReplacingMergeTree")
_REPLICATED_BEFORE = {name: engine for name, engine in _REPLICATED.items() if name != "erasures"}
_SPREAD = {"dead_letters": "Distributed"}
_ALONE = {"logs_labeled": "ReplacingMergeTree"}


class Server:
    """The system tables of one server."""

    def __init__(
        self,
        *,
        engine: str = "Atomic",
        cloud: bool = False,
        tables: dict[str, str] | None = None,
        shards: dict[int, int] | None = None,
        macros: tuple[str, ...] = ("shard", "replica"),
        hosts: str = "a",
        path: str = "/clickhouse/tables/c/res",
    ) -> None:
        self.hosts = Hosts(parse_hosts(hosts, 8123))
        self._answers: dict[str, list[tuple[Any, ...]]] = {
            "system.databases": [(engine, int(cloud))],
            "system.tables": [
                (name, made, f"{made}('{path}/{name}', '{{shard}}-{{replica}}') ORDER BY at")
                for name, made in (tables or {}).items()
            ],
            "system.clusters": list((shards or {}).items()),
            "system.macros": [(name,) for name in macros],
        }

    async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        (found,) = (rows for table, rows in self._answers.items() if table in sql)
        return found


async def found(server: Server, cluster: str | None = None) -> Any:
    settings = Settings(clickhouse_host="a", clickhouse_cluster=cluster, clickhouse_result_database="res")
    return await look_at(cast(ClickHouseClient, server), settings)


@pytest.mark.parametrize(
    ("server", "cluster", "kind", "told"),
    [
        (Server(), None, Kind.PLAIN, "one server"),
        (Server(tables=_ALONE), None, Kind.PLAIN, "one server"),
        (Server(tables=_ALONE | {"logs_labeled_current": "View"}), None, Kind.PLAIN, "one server"),
        (Server(tables=_REPLICATED, hosts="a,b"), None, Kind.PLAIN, "replicated tables"),
        (Server(shards={1: 3}, hosts="a,b"), "c", Kind.CLUSTER, "3 replicas of the cluster c"),
        (Server(shards={1: 2}, tables=_REPLICATED, path="/{shard}/res"), "c", Kind.CLUSTER, "2 replicas"),
        (
            Server(shards={1: 2, 2: 2}, hosts="a,b"),
            "c",
            Kind.CLUSTER,
            "4 replicas of the cluster c, on all 2",
        ),
        (Server(shards={1: 2, 2: 2}, tables=_REPLICATED), "c", Kind.CLUSTER, "on all 2 shards"),
        (Server(engine="Replicated", hosts="a,b"), None, Kind.REPLICATED_DATABASE, "a Replicated database"),
        (Server(engine="Replicated", tables=_REPLICATED), "c", Kind.REPLICATED_DATABASE, "a Replicated"),
        (Server(cloud=True, tables=_ALONE, hosts="a,b"), None, Kind.CLOUD, "ClickHouse Cloud"),
        (Server(tables={"logs_labeled": "SharedReplacingMergeTree"}), None, Kind.CLOUD, "ClickHouse Cloud"),
    ],
)
async def test_what_is_there_is_told(server: Server, cluster: str | None, kind: Kind, told: str) -> None:
    topology = await found(server, cluster)
    topology.refuse()
    assert topology.kind is kind
    assert told in topology.describe()


@pytest.mark.parametrize(
    ("server", "cluster", "why"),
    [
        (Server(), "c", "knows no cluster c"),
        (
            Server(shards={1: 2, 2: 2}, tables=_REPLICATED, path="/{shard}/res"),
            "c",
            "on each of the 2 shards",
        ),
        (Server(shards={1: 2}, macros=("shard",)), "c", "no macro replica"),
        (Server(shards={1: 2}, tables=_ALONE), "c", "not replicated"),
        (Server(engine="Replicated", tables=_ALONE), None, "not replicated"),
        (Server(tables={"logs_labeled": "Distributed"}), None, r"logs_labeled \(Distributed\)"),
        (Server(shards={1: 2}, tables=_REPLICATED | _SPREAD), "c", r"dead_letters \(Distributed\)"),
        (Server(engine="Replicated", tables=_REPLICATED | _SPREAD), None, r"dead_letters \(Distributed\)"),
        (Server(cloud=True, tables=_SPREAD), None, r"dead_letters \(Distributed\)"),
        (Server(tables={"logs_augmented": "Buffer"}), None, r"logs_augmented \(Buffer\)"),
        (Server(tables=_ALONE | {"logs_labeled_current": "Distributed"}), None, r"logs_labeled_current \(D"),
        (Server(hosts="a,b"), None, "names 2 hosts"),
        (Server(hosts="a,b", tables=_ALONE), None, "names 2 hosts"),
        # One erases on a, and b's sinks store the rows again.
        (Server(hosts="a,b", tables=_REPLICATED | {"erasures": "ReplacingMergeTree"}), None, "erasures"),
        (Server(hosts="a,b", tables=_REPLICATED_BEFORE), None, "erasures"),  # `init` would make it on a alone
    ],
)
async def test_what_could_store_a_message_twice_is_refused(
    server: Server, cluster: str | None, why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why) as refused:
        (await found(server, cluster)).refuse()
    assert refused.value.fix
