"""Looks at what ClickHouse is: one server, replicas of a cluster, a Replicated database, or Cloud. It refuses
what cannot hold each message once.

Everything is decided by looking, apart from the cluster's name: a server may know several clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from dataclasses import dataclass, field
from enum import Enum

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host
from connectors.clickhouse.schema.grants import refuse_engines, refuse_missing_rights
from connectors.clickhouse.schema.migration_log import MIGRATIONS
from connectors.clickhouse.schema.placement import IN_REPLICATED_DATABASE, PLAIN, Placement, on_cluster
from connectors.clickhouse.schema.tables import ANSWERS, AUDIT, CURRENT, ERASURES, STORED, VERSIONS
from streams.core.errors import ConfigurationError, LabelstreamError
from streams.core.settings import Settings

_CLUSTER, _HOST, _DATABASE = "CLICKHOUSE_CLUSTER", "CLICKHOUSE_HOST", "CLICKHOUSE_RESULT_DATABASE"
# Each server's own name as a replica.
_MACROS = ("shard", "replica")
# A path in the Keeper that differs from shard to shard: each has a table of its own.
_APART = re.compile(r"^\w+\('[^']*\{shard\}")
# A list of erasures on one host alone would be unknown to whoever uses another one.
EVERY = (*STORED, VERSIONS, AUDIT, ANSWERS, ERASURES, MIGRATIONS)
# New connections to one host, which a load balancer spreads.
_CONNECTIONS = 4


class Kind(Enum):
    """What holds the result tables, in the words of `labelstream check`."""

    PLAIN = "one server"
    CLUSTER = "replicas of a cluster"
    REPLICATED_DATABASE = "a Replicated database"
    CLOUD = "ClickHouse Cloud"


@dataclass(frozen=True)
class Topology:
    """What was found, of one server's view. ``shards``: for each the number of its replicas. ``view``: the
    engine of what has the name of the view, "" for nothing.
    """

    kind: Kind
    hosts: tuple[str, ...]
    database: str
    cluster: str = ""
    shards: dict[int, int] = field(default_factory=dict)
    macros: frozenset[str] = frozenset()
    engines: dict[str, str] = field(default_factory=dict)  # of the tables that exist
    apart: tuple[str, ...] = ()  # those of them that each shard has for itself
    view: str = ""

    @property
    def placement(self) -> Placement:
        """How the result tables are made there."""
        if self.kind is Kind.CLUSTER:
            return on_cluster(self.cluster)
        return IN_REPLICATED_DATABASE if self.kind is Kind.REPLICATED_DATABASE else PLAIN

    def refuse(self) -> None:
        """Refuse what cannot hold each message once.

        Raises:
            ConfigurationError: it says what is missing.
        """
        if self.kind is Kind.CLUSTER:
            self._refuse_cluster()
        refuse_engines(self.database, self.engines | ({CURRENT: self.view} if self.view else {}))
        if self.kind is Kind.CLOUD:
            return
        alone = [name for name, engine in self.engines.items() if not engine.startswith("Replicated")]
        if self.kind is not Kind.PLAIN and alone:
            raise ConfigurationError(
                f"{', '.join(alone)} in {self.database} are on one server and not replicated",
                setting=_DATABASE,
                fix="name another database for the replicated tables, or on this one make them anew: rename "
                "them, labelstream init, INSERT SELECT their rows",
            )
        missing = [name for name in EVERY if name not in self.engines]
        if self.kind is Kind.PLAIN and len(self.hosts) > 1 and (alone or missing):
            raise ConfigurationError(
                f"CLICKHOUSE_HOST names {len(self.hosts)} hosts, but of the result tables in {self.database} "
                f"{', '.join([*alone, *missing])} would be other ones on each of them",
                setting=_CLUSTER,
                fix="name the cluster whose replicas they are, or make the database with ENGINE = "
                "Replicated, and make anew what is not replicated",
            )

    def describe(self) -> str:
        """For `labelstream check`."""
        if self.kind is Kind.CLUSTER:
            told = f"{sum(self.shards.values())} replicas of the cluster {self.cluster}"
            return f"{told}, on all {len(self.shards)} shards" if len(self.shards) > 1 else told
        if self.kind is Kind.PLAIN and any(e.startswith("Replicated") for e in self.engines.values()):
            return "replicated tables"
        return str(self.kind.value)

    def _refuse_cluster(self) -> None:
        if not self.shards:
            raise ConfigurationError(
                f"{self.hosts[0]} knows no cluster {self.cluster}",
                setting=_CLUSTER,
                fix="name one of system.clusters, or add it to remote_servers on every host",
            )
        if len(self.shards) > 1 and self.apart:
            raise ConfigurationError(
                f"{', '.join(self.apart)} in {self.database} are other tables on each of the "
                f"{len(self.shards)} shards of the cluster {self.cluster}: their path has {{shard}}",
                setting=_CLUSTER,
                fix="name a cluster of one shard, with the hosts of CLICKHOUSE_HOST as its replicas; or "
                "rename the tables, labelstream init, INSERT SELECT their rows from each shard",
            )
        if missing := [name for name in _MACROS if name not in self.macros]:
            raise ConfigurationError(
                f"{self.hosts[0]} has no macro {' and '.join(missing)}: replicated tables need them",
                setting=_CLUSTER,
                fix="add <macros> with shard and replica to the configuration of each host",
            )


async def look_at(client: ClickHouseClient, settings: Settings) -> Topology:
    """What the client's current host says.

    Raises:
        UnavailableError: ClickHouse does not answer.
        AccessError: the user may not read the system tables.
    """
    database, cluster = settings.result_database, settings.clickhouse_cluster or ""
    hosts = tuple(str(one) for one in client.hosts.every)
    ((engine, cloud),) = await client.rows(
        "SELECT (SELECT any(engine) FROM system.databases WHERE name = {database:String}),\n"
        "    (SELECT countIf(name = 'cloud_mode' AND value = '1') FROM system.settings)",
        {"database": database},
    )
    found = await client.rows(
        "SELECT name, engine, engine_full FROM system.tables WHERE database = {database:String}\n"
        "    AND name IN {names:Array(String)}",
        {"database": database, "names": [*EVERY, CURRENT]},
    )
    engines = {str(name): str(made) for name, made, _ in found}
    view = engines.pop(CURRENT, "")
    apart = tuple(sorted(str(name) for name, _, full in found if _APART.match(str(full))))
    if int(cloud) or engine == "Shared" or any(made.startswith("Shared") for made in engines.values()):
        return Topology(Kind.CLOUD, hosts, database, engines=engines, view=view)
    if engine == "Replicated":
        return Topology(Kind.REPLICATED_DATABASE, hosts, database, engines=engines, view=view)
    if not cluster:
        return Topology(Kind.PLAIN, hosts, database, engines=engines, view=view)
    shards: dict[int, int] = {}
    for shard, replicas in await client.rows(
        "SELECT shard_num, count() FROM system.clusters WHERE cluster = {cluster:String} GROUP BY shard_num",
        {"cluster": cluster},
    ):
        shards[int(shard)] = int(replicas)
    macros = frozenset(str(name) for (name,) in await client.rows("SELECT macro FROM system.macros"))
    return Topology(Kind.CLUSTER, hosts, database, cluster, shards, macros, engines, apart, view)


async def look_at_every_host(client: ClickHouseClient, settings: Settings) -> str:
    """What `look_at` finds, compared on every host of CLICKHOUSE_HOST; for `labelstream check`.

    Raises:
        ConfigurationError: a host does not hold what the others hold, or cannot hold each message once.
        UnavailableError: a host does not answer.
    """
    found = await look_at(client, settings)
    found.refuse()
    told = found.describe()
    if any(engine.startswith("Replicated") for engine in found.engines.values()):
        # Who asks what is stored lets the host fetch it first.
        await refuse_missing_rights(client, settings, "SYSTEM SYNC REPLICA", found.engines)
    if found.kind is not Kind.CLOUD:
        for host in client.hosts.every:
            await _refuse_several(client, host)
    if not client.hosts.several:
        return told
    paths: dict[str, dict[str, str]] = {}
    for host in client.hosts.every:
        async with client.at(host) as one:
            (await look_at(one, settings)).refuse()
            for table, path, readonly, delay in await one.rows(
                "SELECT table, zookeeper_path, is_readonly, absolute_delay FROM system.replicas\n"
                "WHERE database = {database:String}",
                {"database": settings.result_database},
            ):
                paths.setdefault(str(table), {})[str(host)] = str(path)
                if int(readonly):
                    raise ConfigurationError(
                        f"{table} is read-only on {host}: it has lost the Keeper, or refuses its own parts",
                        setting=_HOST,
                        fix="see system.replicas there, the host's connection to the Keeper, and in its log "
                        "TOO_MANY_UNEXPECTED_DATA_PARTS, after which it needs flags/force_restore_data",
                    )
                if int(delay) > settings.poll_lookback_seconds:
                    told += f"; {table} on {host} is {int(delay)} s behind"
    for table, by_host in paths.items():
        lacking = [str(host) for host in client.hosts.every if str(host) not in by_host]
        if lacking or len(set(by_host.values())) > 1:
            raise ConfigurationError(
                f"{table} is not one table on every host: "
                + (f"{', '.join(lacking)} lack it" if lacking else "its paths in the Keeper differ"),
                setting=_HOST,
                fix="labelstream init makes what is missing; name only replicas of one cluster",
            )
    return told


async def _refuse_several(client: ClickHouseClient, host: Host) -> None:
    """A load balancer would send an insert to one server, and the look for what became of it to another."""
    names = set()
    for _ in range(_CONNECTIONS):
        async with client.at(host) as one:
            names.add(str(await one.command("SELECT hostName()")))
    for address in await asyncio.to_thread(_addresses, host):
        # A certificate is for the name, and a server that is away may be the same one.
        with contextlib.suppress(LabelstreamError):
            async with client.at(Host(address, host.port)) as one:
                names.add(str(await one.command("SELECT hostName()")))
    if len(names) > 1:
        raise ConfigurationError(
            f"{host} leads to several servers: {', '.join(sorted(names))}",
            setting=_HOST,
            fix="name the servers themselves, with commas in between, not their load balancer",
        )


def _addresses(host: Host) -> list[str]:
    """The addresses of a name that has several of one kind, as that of a service without a load balancer."""
    try:
        found = socket.getaddrinfo(host.name, host.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    kinds = {kind: {str(address[0]) for one, _, _, _, address in found if one == kind} for kind, *_ in found}
    return sorted(address for some in kinds.values() if len(some) > 1 for address in some)
