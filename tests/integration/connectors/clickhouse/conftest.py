"""A ClickHouse for each file of tests, and a database for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.sink import inserter as inserts
from tests.unit.connectors.clickhouse.sink.fakes import Database, clickhouse, fresh_database


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    with clickhouse(tmp_path_factory.mktemp("clickhouse")) as found:
        yield found


@pytest.fixture
async def client(address: tuple[str, int]) -> AsyncIterator[ClickHouseClient]:
    """A client, and an empty database `esk`."""
    client = ClickHouseClient(host=address[0], port=address[1], username="default", password="")
    await client.command("DROP DATABASE IF EXISTS esk")
    await client.command("CREATE DATABASE esk")
    yield client
    await client.close()


@pytest.fixture
async def database(address: tuple[str, int]) -> AsyncIterator[Database]:
    """A client, and settings whose database has the result tables."""
    async with fresh_database(address) as found:
        yield found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test can wait for."""
    monkeypatch.setattr(inserts, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(inserts, "_LONGEST_PAUSE", 0.02)
