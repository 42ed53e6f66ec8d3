"""Hosts that lack what the current one has: a replica that is new, or that an ON CLUSTER did not reach."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, cast

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host, Hosts, parse_hosts
from connectors.clickhouse.schema.database import _complete_hosts
from connectors.clickhouse.schema.topology import _addresses
from streams.core.errors import UnavailableError

_THERE = {"a": ["erasures", "logs_labeled"], "b": ["logs_labeled"], "c": []}


class Client:
    """A client of the hosts a, b, c and d, of which d is away."""

    def __init__(self, host: str = "a", ran: list[tuple[str, str]] | None = None) -> None:
        self.hosts = Hosts(parse_hosts("a,b,c,d", 8123))
        self.ran: list[tuple[str, str]] = [] if ran is None else ran
        self._host = host

    def at(self, host: Host) -> Client:
        return Client(host.name, self.ran)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def rows(self, sql: str, parameters: Any) -> list[tuple[str, str]]:
        if self._host == "d":
            raise UnavailableError("away", setting="CLICKHOUSE_HOST")
        return [(name, f"CREATE {name}") for name in _THERE[self._host]]

    async def command(self, sql: str) -> None:
        self.ran.append((self._host, sql))


async def test_a_host_gets_what_it_lacks_as_the_current_one_has_it() -> None:
    client = Client()
    await _complete_hosts(cast(ClickHouseClient, client), "esk")
    database = "CREATE DATABASE IF NOT EXISTS `esk`"
    assert client.ran == [
        ("b", database),
        ("b", "CREATE erasures"),
        ("c", database),
        ("c", "CREATE erasures"),
        ("c", "CREATE logs_labeled"),
    ]


def test_an_address_or_a_name_with_one_is_no_balancer() -> None:
    assert _addresses(Host("127.0.0.1", 8123)) == []
