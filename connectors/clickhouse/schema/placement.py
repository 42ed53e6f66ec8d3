"""Where the result tables are: on one server, or on every host of a cluster.

On a cluster (CLICKHOUSE_CLUSTER) tables and views are made `ON CLUSTER`, and the tables' engines are their
`Replicated` kind. The path in the Keeper is one for all hosts, of whichever shard they are, and the replica's
name has the macros of the server: so every host has every row, and one that is added later joins those that
are there. A change of a replicated table, by ALTER, reaches every replica by itself.

Rows are not spread over shards. What is stored of a message could only be known by asking the shard that has
it, which may be away, and which is another one as soon as a shard is added. A query over several tables of
the result would have to move rows between shards. See docs/internals/adr/0020-results-whole-on-each-host.md.

A `Replicated` database carries every statement to its replicas, and gives the engines their paths. ClickHouse
Cloud makes all of that of the plain statements.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.clickhouse.client.sql import literal, qualified, quoted


@dataclass(frozen=True)
class Placement:
    """``cluster``: "" where statements need not say one. ``replicated``: whether tables have that engine."""

    cluster: str = ""
    replicated: bool = False

    @property
    def clause(self) -> str:
        """What follows a name in CREATE and DROP."""
        return f" ON CLUSTER {literal(self.cluster)}" if self.cluster else ""

    def name(self, database: str, table: str) -> str:
        """A table's full name in CREATE, with the cluster."""
        return qualified(database, table) + self.clause

    def create_database(self, database: str) -> str:
        """The statement for the database."""
        return f"CREATE DATABASE IF NOT EXISTS {quoted(database)}{self.clause}"

    def engine(self, database: str, table: str, engine: str) -> str:
        """The engine of a table that has ``engine``, as `ReplacingMergeTree(at)`, on one server."""
        if not self.replicated:
            return engine
        kind, _, given = engine.partition("(")
        parts = [given.rstrip(")")] if given else []
        if self.cluster:
            path = f"/clickhouse/tables/{self.cluster}/{database}/{table}"
            parts = [literal(path), literal("{shard}-{replica}"), *parts]
        return f"Replicated{kind}" + (f"({', '.join(parts)})" if parts else "")


# One server, and ClickHouse Cloud.
PLAIN = Placement()
# A Replicated database.
IN_REPLICATED_DATABASE = Placement(replicated=True)


def on_cluster(cluster: str) -> Placement:
    """On every host of ``cluster``."""
    return Placement(cluster, replicated=True)
