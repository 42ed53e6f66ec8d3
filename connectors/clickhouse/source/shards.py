"""A source that reads other servers: a Distributed table, or a view of one.

Of such a table ClickHouse leaves out the rows of a shard that cannot be reached where
`skip_unavailable_shards` is set, in the user's profile or in the table, and reads replicas that are behind.
Rows that are missing without an error would be rows without a label. So each reading says what it needs; a
shard that is away is an error then, and the poller waits for it.

Which shard has a row plays no part in its id: a row keeps it when it is moved.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import AccessError, ConfigurationError

if TYPE_CHECKING:
    from connectors.clickhouse.source.inspection import FoundTable

# Of the look-back window: how far a replica may be behind.
BEHIND = 1 / 2
_SKIPS = ("skip_unavailable_shards", "optimize_skip_unused_shards")
_STALE = ("fallback_to_stale_replicas_for_distributed_queries", "max_replica_delay_for_distributed_queries")
_TARGET = re.compile(r"^Distributed\('((?:[^'\\]|\\.)*)', '((?:[^'\\]|\\.)*)', '((?:[^'\\]|\\.)*)'")
_SKIPS_ITSELF = re.compile(r"\bskip_unavailable_shards = (?:1|true)\b")
# Engines of tables that read from others.
INDIRECT = {"View", "MaterializedView", "Distributed", "Merge", "Buffer", "Alias"}
_MERGES = "match(engine, '(Replacing|Collapsing|Summing|Aggregating|Coalescing|Graphite)MergeTree$')"


def reading_settings(lookback_seconds: float) -> str:
    """What a SELECT says in SETTINGS, so that no shard is left out and no replica is read that is behind."""
    # Rows may have been inserted on a shard itself, where the sharding key does not say.
    told = dict.fromkeys(_SKIPS, 0)
    told |= dict(zip(_STALE, (0, max(1, int(lookback_seconds * BEHIND))), strict=True))
    return ", ".join(f"{name} = {value}" for name, value in told.items())


async def refuse_skipping(client: ClickHouseClient, found: FoundTable) -> None:
    """For a user who may not change settings: refuse those in force by which rows are left out.

    Raises:
        ConfigurationError: it names them.
    """
    rows = await client.rows(
        "SELECT name FROM system.settings\n"
        "WHERE name IN {names:Array(String)} AND value NOT IN ('0', 'false')",
        {"names": list(_SKIPS)},
    )
    wrong = [str(name) for (name,) in rows]
    wrong += [f"skip_unavailable_shards of the table {name}" for name in await skipping_tables(client, found)]
    if wrong:
        raise ConfigurationError(
            f"rows of {found.name} are left out while a shard is away ({', '.join(wrong)}), and the user may "
            "not change that",
            setting="CLICKHOUSE_USERNAME",
            fix=f"set {' and '.join(f'{name} = 0' for name in _SKIPS)} in the user's profile and make the "
            "tables without these settings, or let the user change settings (readonly = 2)",
        )


async def skipping_tables(client: ClickHouseClient, found: FoundTable) -> list[str]:
    """The Distributed tables that leave rows out by settings of their own: ``found``, and those that it reads
    through views and other tables, as far as the user may see them.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    if found.engine not in INDIRECT:
        return []
    # A materialized view reads where it stores, not what its SELECT reads.
    rows = await client.rows(
        "SELECT database, name, engine_full, replaceOne(create_table_query,\n"
        "    if(engine = 'MaterializedView', as_select, ''), '') AS made FROM system.tables\n"
        "WHERE engine IN {indirect:Array(String)}",
        {"indirect": sorted(INDIRECT)},
    )
    tables = {f"{database}.{name}": (str(full), str(made)) for database, name, full, made in rows}
    named = {f"{database}.{name}": _named(str(database), str(name)) for database, name, *_ in rows}
    seen, left = {found.name}, [found.name]
    while left:
        _, made = tables.get(left.pop(), ("", ""))
        reached = {name for name, pattern in named.items() if pattern.search(made)} - seen
        seen |= reached
        left += reached
    return sorted(name for name in seen if name in tables and _SKIPS_ITSELF.search(tables[name][0]))


def _named(database: str, table: str) -> re.Pattern[str]:
    """Matches what names the table in a statement of ClickHouse: `a.b`, or `'a', 'b'` of an engine."""
    one, two = re.escape(database), re.escape(table)
    return re.compile(rf"(?<![\w`.])`?{one}`?\.`?{two}`?(?![\w`])|'{one}', '{two}'")


async def notes_on_shards(client: ClickHouseClient, found: FoundTable, *, told: bool) -> list[str]:
    """Remarks on a Distributed table. ``told``: whether its readings carry `reading_settings`.

    Raises:
        UnavailableError: ClickHouse does not answer.
    """
    target = _TARGET.match(found.engine_full) if found.engine == "Distributed" else None
    if target is None:
        return []
    cluster, database, table = target.groups()
    notes = []
    given = {"cluster": cluster, "database": database, "table": table}
    try:
        # A Distributed table keeps '{cluster}' as it was written.
        for macro, value in await client.rows("SELECT macro, substitution FROM system.macros"):
            given = {key: one.replace(f"{{{macro}}}", str(value)) for key, one in given.items()}
        ((found_shards,),) = await client.rows(
            "SELECT uniqExact(shard_num) FROM system.clusters WHERE cluster = {cluster:String}", given
        )
        shards = int(found_shards)
        told_of = f"{shards} shards of the cluster {given['cluster']}"
    except AccessError:
        # Rights that its reading does not need.
        shards, told_of = 2, f"the cluster {cluster} (the user may not see how many shards it has)"
    notes.append(f"it reads {told_of}, and waits while one is away")
    if not told:
        notes.append(
            "the user may not change settings, so replicas that are behind are read: set "
            f"{_STALE[0]} = 0 and {_STALE[1]} to half of POLL_LOOKBACK_SECONDS in the user's profile"
        )
    if shards > 1 and await client.rows(
        "SELECT 1 FROM system.tables WHERE database = {database:String} AND name = {table:String}\n"
        f"    AND {_MERGES}",
        given,
    ):
        notes.append(
            f"{given['database']}.{given['table']} replaces rows by newer ones, each shard those that it "
            "has: the versions of a row must be on one shard, by the sharding key"
        )
    try:
        ((files, broken),) = await client.rows(
            "SELECT sum(data_files), sum(broken_data_files) FROM system.distribution_queue\n"
            "WHERE database || '.' || table = {name:String}",
            {"name": found.name},
        )
    except AccessError:
        return notes
    if int(files) or int(broken):
        notes.append(
            f"{int(files)} blocks of rows wait on this host to be sent to their shards, and {int(broken)} "
            "cannot be sent; rows that arrive later than POLL_LOOKBACK_SECONDS are found by the search for "
            "lost rows alone"
        )
    return notes
