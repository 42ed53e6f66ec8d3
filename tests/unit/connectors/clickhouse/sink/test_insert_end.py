"""Ending inserts where not every server can be asked."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self, cast

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Hosts, parse_hosts
from connectors.clickhouse.sink.insert_end import InsertEnd
from connectors.clickhouse.sink.insert_fence import Fence
from streams.core.errors import AccessError, UnavailableError


class Cloud:
    """One address, and a user who may neither kill on a cluster nor look at its other servers."""

    hosts = Hosts(parse_hosts("cloud", 8443))

    async def command(self, sql: str, **_: Any) -> Any:
        raise AccessError("Code: 497. DB::Exception: Not enough privileges", setting="CLICKHOUSE_USERNAME")


async def test_on_cloud_inserts_that_cannot_be_seen_are_waited_for() -> None:
    client = cast(ClickHouseClient, Cloud())
    end = InsertEnd(client, Fence(client))
    end.shared = True
    (host,) = client.hosts.every
    with pytest.raises(UnavailableError, match="CLUSTER, REMOTE"):
        await end.others(host, "p/", "p/2/", since=float("inf"))
    await end.others(host, "p/", "p/2/", since=float("-inf"))  # their time is over


async def test_on_one_server_it_has_to_be_seen() -> None:
    client = cast(ClickHouseClient, Cloud())
    (host,) = client.hosts.every
    with pytest.raises(AccessError):
        await InsertEnd(client, Fence(client)).others(host, "p/", "p/2/", since=float("-inf"))


class Paused:
    """Two hosts; what is asked of one of them is not answered."""

    hosts = Hosts(parse_hosts("a,b", 8123))

    def at(self, host: Any) -> Self:
        return self

    async def command(self, sql: str, **_: Any) -> Any:
        await asyncio.Event().wait()


async def test_a_host_that_is_paused_is_waited_for_as_long_as_an_insert_may_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = cast(ClickHouseClient, Paused())
    monkeypatch.setattr(asyncio, "wait_for", _not_answered)
    await InsertEnd(client, Fence(client)).others(
        client.hosts.every[0], "p/", "p/2/", since=time.monotonic() - 60
    )


async def _not_answered(asking: Any, seconds: float) -> None:
    asking.close()
    assert seconds < 10
    raise TimeoutError
