from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import clickhouse_connect
import pytest

from connectors.local.stack import PartStatus
from tests.stack import SharedStack, fresh_name


@pytest.fixture(scope="session")
def front(shared: SharedStack) -> PartStatus:
    """The ClickHouse front of all tests."""
    return shared.clickhouse()


@pytest.fixture
def connect(front: PartStatus) -> Iterator[Callable[..., Any]]:
    """Makes ordinary clients of the front, closed at the end."""
    clients = []

    def make(**arguments: Any) -> Any:
        client = clickhouse_connect.get_client(
            **{"host": front.host, "port": front.port, "autogenerate_session_id": False, **arguments}
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def client(connect: Callable[..., Any]) -> Any:
    """An ordinary clickhouse-connect client."""
    return connect()


@pytest.fixture
def table() -> str:
    """A name that no other test uses."""
    return fresh_name("t")
