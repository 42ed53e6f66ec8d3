"""The engine of all tests, and a database for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.sink import inserter as inserts
from tests.integration.connectors.clickhouse.engine import Address, Database, fresh_database
from tests.stack import SharedStack, fresh_name


@pytest.fixture(scope="session")
def address(shared: SharedStack) -> Address:
    part = shared.clickhouse()
    assert part.host
    assert part.port
    return part.host, part.port


@pytest.fixture
async def client(address: Address) -> AsyncIterator[ClickHouseClient]:
    client = ClickHouseClient(host=address[0], port=address[1], username="default", password="")
    yield client
    await client.close()


@pytest.fixture
async def db(client: ClickHouseClient) -> AsyncIterator[str]:
    """An empty database."""
    name = fresh_name("db")
    await client.command(f"CREATE DATABASE {name}")
    yield name
    await client.command(f"DROP DATABASE {name} SYNC")


@pytest.fixture
async def database(address: Address) -> AsyncIterator[Database]:
    """A client, and settings whose database has the result tables."""
    async with fresh_database(address) as found:
        yield found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that a test can wait for."""
    monkeypatch.setattr(inserts, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(inserts, "_LONGEST_PAUSE", 0.02)
