"""A source of several shards, for users who may and who may not change settings."""

from __future__ import annotations

from typing import Any, cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source.shards import (
    notes_on_shards,
    reading_settings,
    refuse_skipping,
    skipping_tables,
)
from connectors.clickhouse.source.table import SourceTable
from streams.core.errors import AccessError, ConfigurationError
from streams.core.settings import Settings
from tests.unit.connectors.clickhouse.source.test_shape import found

_ENGINE = "Distributed('main', 'esk', 'kept', cityHash64(id))"


class Server:
    """What a server says of itself; ``skips`` are the settings in force by which it leaves rows out."""

    def __init__(
        self,
        *,
        engine: str = _ENGINE,
        skips: tuple[str, ...] = (),
        readonly: int = 164,
        merges: bool = False,
        waiting: tuple[int, int] | None = (0, 0),
        hidden: bool = False,
        reads: tuple[tuple[str, str, str], ...] = (),
    ) -> None:
        self.engine, self.skips, self.readonly, self.merges = engine, skips, readonly, merges
        self.waiting, self.hidden = waiting, hidden
        self.reads = reads
        self.read: list[str] = []

    async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        if "system.columns" in sql:
            types = {"created_at": "DateTime", "query_text": "String"}
            return [(name, type_, "", "") for name, type_ in types.items()]
        if "create_table_query" in sql:
            return [("esk", *one) for one in self.reads or (("logs", self.engine, "CREATE TABLE esk.logs"),)]
        if "engine_full" in sql:
            return [("Distributed", "", "", self.engine)]
        if "system.settings" in sql:
            return [(name,) for name in self.skips]
        if self.hidden and ("system.clusters" in sql or "system.macros" in sql):
            raise AccessError("no", setting="CLICKHOUSE_USERNAME", fix="grant it")
        if "system.macros" in sql:
            return [("cluster", "main"), ("replica", "a")]
        if "system.clusters" in sql:
            return [(2 if parameters["cluster"] == "main" else 0,)]
        if "system.tables" in sql:
            return [(1,)] if self.merges else []
        if "distribution_queue" in sql:
            if self.waiting is None:
                raise AccessError("no", setting="CLICKHOUSE_USERNAME", fix="grant it")
            return [self.waiting]
        if "SETTINGS" in sql:
            raise ConfigurationError(f"Code: {self.readonly}. DB::Exception: no", setting="X", fix="y")
        self.read.append(sql)
        return []


def client(server: Server) -> ClickHouseClient:
    return cast(ClickHouseClient, server)


def test_a_replica_may_be_half_the_window_behind() -> None:
    assert "max_replica_delay_for_distributed_queries = 300" in reading_settings(600)
    assert "max_replica_delay_for_distributed_queries = 1" in reading_settings(0)  # 0 would be any


@pytest.mark.parametrize("code", [164, 452])
async def test_who_may_change_no_setting_reads_where_nothing_is_left_out(code: int) -> None:
    server = Server(readonly=code)
    table = SourceTable(client(server), Settings())
    await table.inspect()
    assert server.read
    assert not (await table.shape()).settings


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Server(skips=("skip_unavailable_shards",)), "while a shard is away"),
        (Server(engine=f"{_ENGINE} SETTINGS skip_unavailable_shards = 1"), "of the table esk.logs"),
        (Server(engine=f"{_ENGINE} SETTINGS skip_unavailable_shards = true"), "of the table esk.logs"),
    ],
)
async def test_a_source_that_leaves_rows_out_is_refused(server: Server, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as refused:
        await SourceTable(client(server), Settings()).inspect()
    assert "skip_unavailable_shards = 0" in str(refused.value.fix)


async def test_another_error_of_a_setting_is_not_taken_for_a_missing_right() -> None:
    with pytest.raises(ConfigurationError, match="115"):
        await SourceTable(client(Server(readonly=115)), Settings()).inspect()


@pytest.mark.parametrize(
    ("server", "told", "notes"),
    [
        (Server(), True, ["waits while one is away"]),
        (Server(waiting=None), True, ["waits while one is away"]),
        (Server(engine=_ENGINE.replace("main", "{cluster}")), True, ["2 shards of the cluster main,"]),
        (Server(hidden=True), True, ["cluster main (the user may not see"]),
        (Server(), False, ["waits", "replicas that are behind are read"]),
        (Server(merges=True), True, ["waits", "must be on one shard"]),
        (Server(waiting=(3, 1)), True, ["waits", "3 blocks of rows wait on this host"]),
        (Server(engine="MergeTree ORDER BY created_at"), True, []),
    ],
)
async def test_what_check_says_of_shards(server: Server, told: bool, notes: list[str]) -> None:
    engine = server.engine.partition("(")[0].partition(" ")[0]
    table = found(engine, engine_full=server.engine)
    said = await notes_on_shards(client(server), table, told=told)
    assert len(said) == len(notes)
    assert all(part in note for part, note in zip(notes, said, strict=True))


def _view(name: str, *read: str, quoted: bool = False) -> tuple[str, str, str]:
    tables = ", ".join(f"esk.`{one}`" if quoted else f"esk.{one}" for one in read)
    return name, "View", f"CREATE VIEW esk.{name} (`id` UInt64) AS SELECT id FROM {tables}"


_SKIPPING = ("spread", f"{_ENGINE} SETTINGS skip_unavailable_shards = 1", "CREATE TABLE esk.spread")
_BUFFER = ("held", "Buffer(...)", "CREATE TABLE esk.held (`id` UInt64) ENGINE = Buffer('esk', 'spread', 16)")


@pytest.mark.parametrize(
    ("reads", "skipping"),
    [
        ((_view("logs", "spread"), _SKIPPING), ["esk.spread"]),
        ((_view("logs", "spread", quoted=True), _SKIPPING), ["esk.spread"]),
        ((_view("logs", "view"), _view("view", "other", "spread"), _SKIPPING), ["esk.spread"]),
        ((_view("logs", "held"), _BUFFER, _SKIPPING), ["esk.spread"]),
        ((_view("logs", "view"), _view("view", "logs"), _SKIPPING), []),  # each reads the other
        ((_view("logs", "spread_2"), _SKIPPING), []),
        ((_view("logs", "kept"), _view("another", "spread"), _SKIPPING), []),
    ],
)
async def test_what_a_view_reads_counts_however_far_behind(
    reads: tuple[tuple[str, str, str], ...], skipping: list[str]
) -> None:
    server, view = Server(reads=reads), found("View")
    assert await skipping_tables(client(server), view) == skipping
    if skipping:
        with pytest.raises(ConfigurationError, match="of the table"):
            await refuse_skipping(client(server), view)
    else:
        await refuse_skipping(client(server), view)
