"""What is fetched from other replicas before it is looked for, and which host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import pytest

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Hosts, parse_hosts
from connectors.clickhouse.source.inspection import FoundTable
from connectors.clickhouse.source.replica_delay import ReplicaDelay
from streams.core.errors import AccessError, UnavailableError
from streams.core.settings import Settings

_BEHIND = "HTTPDriver: Code: 159. DB::Exception: SYNC REPLICA: command timed out. (TIMEOUT_EXCEEDED)"
_OLD = (
    "HTTPDriver: Code: 62. DB::Exception: Syntax error: failed at position 30 (LIGHTWEIGHT). (SYNTAX_ERROR)"
)


_SYNC, _CHECK = "SYSTEM SYNC REPLICA `d`.`t` LIGHTWEIGHT", "SELECT parts_to_check FROM system.replicas"


class Client:
    """A client of two hosts; ``failing`` is what statements fail with, by their last word, and ``unknown``
    how many parts the first host has to check.
    """

    def __init__(
        self, engine: str, delay: tuple[int, int] = (0, 0), unknown: int = 0, **failing: str
    ) -> None:
        self.hosts = Hosts(parse_hosts("a,b", 8123))
        self.ran: list[str] = []
        self.delay, self._unknown = delay, unknown
        self._engine, self._failing = engine, failing

    async def rows(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        self.ran.append(sql.split("\n")[0])
        if "parts_to_check" in sql:
            return [(self._unknown if self.hosts.current.name == "a" else 0,)]
        return [self.delay] if "absolute_delay" in sql else [(self._engine,)]

    async def command(self, sql: str, settings: Mapping[str, Any]) -> None:
        self.ran.append(sql)
        if text := self._failing.get(sql.split()[-1]):
            raise UnavailableError(text, setting="CLICKHOUSE_HOST")


async def caught_up(client: Client, engine: str | None = None) -> str:
    return await catch_up(cast(ClickHouseClient, client), "d", "t", engine)


@pytest.mark.parametrize(
    ("engine", "ran", "settings"),
    [
        ("ReplacingMergeTree", [], ""),
        ("ReplicatedReplacingMergeTree", [_SYNC, _CHECK], ""),
        ("SharedReplacingMergeTree", [], "\nSETTINGS select_sequential_consistency = 1"),
    ],
)
async def test_what_is_done_before_a_look(engine: str, ran: list[str], settings: str) -> None:
    client = Client(engine)
    assert await caught_up(client, engine) == settings
    assert client.ran == ran


async def test_a_host_that_is_behind_is_left() -> None:
    client = Client("ReplicatedMergeTree", LIGHTWEIGHT=_BEHIND)
    with pytest.raises(UnavailableError):
        await caught_up(client)
    assert client.hosts.current.name == "b"


async def test_a_host_that_shows_what_may_be_removed_again_is_left() -> None:
    client = Client("ReplicatedMergeTree", unknown=1)
    with pytest.raises(UnavailableError, match="a:8123 shows parts"):
        await caught_up(client)
    assert client.hosts.current.name == "b"
    await caught_up(client)


async def test_an_old_server_waits_for_merges_too() -> None:
    client = Client("ReplicatedMergeTree", LIGHTWEIGHT=_OLD)
    await caught_up(client)
    assert client.ran[-2:] == ["SYSTEM SYNC REPLICA `d`.`t`", _CHECK]
    assert client.hosts.current.name == "a"


@pytest.mark.parametrize(
    ("delay", "read"), [((0, 0), True), ((60, 0), True), ((200, 0), False), ((0, 1), False)]
)
async def test_a_source_that_is_half_the_window_behind_is_not_read(
    delay: tuple[int, int], *, read: bool
) -> None:
    client = Client("ReplicatedMergeTree", delay)
    guard = ReplicaDelay(cast(ClickHouseClient, client), Settings(poll_lookback_seconds=300))
    table = FoundTable("d.t", "ReplicatedMergeTree", "", {})
    if read:
        await guard.refuse(table)
        await guard.refuse(table)
        assert len(client.ran) == 1, "it is believed for a while"
        return
    with pytest.raises(UnavailableError, match="a:8123"):
        await guard.refuse(table)
    assert client.hosts.current.name == "b"


async def test_who_may_not_look_at_replicas_reads_as_before() -> None:
    client = Client("ReplicatedMergeTree")
    asked: list[str] = []

    async def refuse(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        asked.append(sql)
        raise AccessError("Code: 497. DB::Exception: Not enough privileges", setting="CLICKHOUSE_USERNAME")

    client.rows = refuse  # type: ignore[method-assign]
    guard = ReplicaDelay(cast(ClickHouseClient, client), Settings())
    for _ in range(2):
        await guard.refuse(FoundTable("d.t", "ReplicatedMergeTree", "", {}))
    assert len(asked) == 1


async def test_a_host_that_is_new_is_asked_at_once_and_a_plain_table_never() -> None:
    client = Client("ReplicatedMergeTree")
    guard = ReplicaDelay(cast(ClickHouseClient, client), Settings())
    await guard.refuse(FoundTable("d.t", "MergeTree", "", {}))
    assert not client.ran
    for _ in range(2):
        await guard.refuse(FoundTable("d.t", "ReplicatedMergeTree", "", {}))
        client.hosts.leave(client.hosts.current, "test")
    assert len(client.ran) == 2
