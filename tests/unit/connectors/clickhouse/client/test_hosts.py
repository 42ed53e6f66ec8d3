"""Several hosts in CLICKHOUSE_HOST: how they are written, and which of them is used."""

from __future__ import annotations

from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.hosts import Host, Hosts, parse_hosts
from streams.core.errors import ConfigurationError, LabelstreamError, UnavailableError

_READ_ONLY = "HTTPDriver returned: Code: 242. DB::Exception: Table is in readonly mode. (TABLE_IS_READ_ONLY)"
_NO_TABLE = "HTTPDriver returned: Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)"


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("ch", [Host("ch", 8123)]),
        ("::1", [Host("::1", 8123)]),
        ("[::1]:9, 10.0.0.2", [Host("::1", 9), Host("10.0.0.2", 8123)]),
        ("a,b:8124 , c.example", [Host("a", 8123), Host("b", 8124), Host("c.example", 8123)]),
    ],
)
def test_hosts_are_read(text: str, hosts: list[Host]) -> None:
    assert parse_hosts(text, 8123) == hosts


@pytest.mark.parametrize("text", ["a,,b", "a,b:port", "a:99999", "http://a", "a,a:8123", "a b"])
def test_what_is_no_host_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match="CLICKHOUSE_HOST"):
        parse_hosts(text, 8123)


class Servers:
    """Drivers by host; each fails as ``down`` and ``failing`` say."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.failing: dict[str, Exception] = {}
        self.connected: list[str] = []

    def get_client(self, host: str, **_: Any) -> Driver:
        if host in self.down:
            raise OperationalError(f"Error Connection refused executing HTTP request attempt 1 http://{host}")
        self.connected.append(host)
        return Driver(self, host)


class Driver:
    def __init__(self, servers: Servers, host: str) -> None:
        self._servers, self._host = servers, host

    def command(self, _: str) -> str:
        if self._host in self._servers.down:
            raise OperationalError("Error Connection reset executing HTTP request attempt 1")
        if (failure := self._servers.failing.get(self._host)) is not None:
            raise failure
        return self._host


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Servers:
    found = Servers()
    monkeypatch.setattr(clickhouse_connect, "get_client", found.get_client)
    return found


def client_of(hosts: str, shared: Hosts | None = None) -> ClickHouseClient:
    return ClickHouseClient(host=hosts, port=8123, username="u", password="", hosts=shared)


def asked(client: ClickHouseClient) -> Any:
    return client.call(lambda driver: driver.command("SELECT 1"))


def test_one_host_is_used_as_long_as_it_works_and_not_left_again_for_the_first(servers: Servers) -> None:
    client = client_of("a,b,c")
    assert [asked(client), asked(client)] == ["a", "a"]
    assert servers.connected == ["a"]
    servers.down.add("a")
    with pytest.raises(UnavailableError):
        asked(client)
    servers.down.clear()
    assert [asked(client), asked(client)] == ["b", "b"]


def test_hosts_that_cannot_be_reached_are_passed_over_at_once(servers: Servers) -> None:
    servers.down.update("ab")
    client = client_of("a,b,c")
    assert asked(client) == "c"
    servers.down.add("c")
    for _ in range(2):
        with pytest.raises(UnavailableError):
            asked(client)
    servers.down.remove("a")
    assert asked(client) == "a"


@pytest.mark.parametrize(("text", "next_host"), [(_READ_ONLY, "b"), (_NO_TABLE, "a")])
def test_a_host_that_is_cut_off_is_left_and_one_that_answers_is_not(
    servers: Servers, text: str, next_host: str
) -> None:
    servers.failing["a"] = DatabaseError(text)
    client = client_of("a,b")
    with pytest.raises(LabelstreamError):
        asked(client)
    servers.failing.clear()
    assert asked(client) == next_host


def test_clients_that_share_their_hosts_move_together(servers: Servers) -> None:
    client = client_of("a,b")
    writer = client_of("a,b", client.hosts)
    assert (asked(client), asked(writer)) == ("a", "a")
    servers.down.add("a")
    with pytest.raises(UnavailableError):
        asked(writer)
    servers.down.clear()
    assert (asked(client), asked(writer)) == ("b", "b")
    # A failure that is told late, of the host that was left already, moves nobody.
    client.hosts.leave(Host("a", 8123), "late")
    assert asked(client) == "b"


def test_one_host_alone_is_never_left(servers: Servers) -> None:
    client = client_of("a")
    assert asked(client) == "a"
    servers.down.add("a")
    with pytest.raises(UnavailableError):
        asked(client)
    servers.down.clear()
    assert asked(client) == "a"
    assert servers.connected == ["a"]
