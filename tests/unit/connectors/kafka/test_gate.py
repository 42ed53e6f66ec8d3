"""The gate where a connection is lost: no request goes out by a way that nobody watches."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.errors import NodeNotReadyError

from connectors.kafka.gate import GatedClient, LeaseAwayError

PRODUCE = b"\x00\x00\x00\x09\x00\x00 a request"
METADATA = b"\x00\x00\x00\x09\x00\x03 a request"


class Connection:
    """As aiokafka's."""

    def __init__(self, *, lost: bool = False) -> None:
        self.written: list[bytes] = []
        self._lost = lost
        transport = SimpleNamespace(write=self.written.append)
        self._writer: Any = None if lost else SimpleNamespace(transport=transport, close=lambda: "closed")

    def connected(self) -> bool:
        return not self._lost


class Client:
    """As aiokafka's: what is sent is written by the connection that there is."""

    def __init__(self, connection: Connection | None) -> None:
        self._conns = {} if connection is None else {(0, ConnectionGroup.DEFAULT): connection}
        self.cluster = "the cluster"

    async def ready(self, node_id: int, *, group: Any) -> bool:
        return True

    async def send(self, node_id: int, request: bytes, *, group: Any) -> None:
        self._conns[(node_id, group)]._writer.write(request)


@pytest.mark.parametrize("connection", [None, Connection(lost=True)])
async def test_a_connection_that_is_lost_as_it_is_made_is_not_written_to(
    connection: Connection | None,
) -> None:
    with pytest.raises(NodeNotReadyError):  # aiokafka tries again, with the same sequence numbers
        await GatedClient(Client(connection), lambda: True).send(0, PRODUCE)


async def test_messages_go_out_with_the_lease_alone_and_whatever_else_always() -> None:
    connection, held = Connection(), [True, False]
    client = GatedClient(Client(connection), lambda: held.pop(0))
    await client.send(0, PRODUCE)
    with pytest.raises(LeaseAwayError):
        await client.send(0, PRODUCE)
    await client.send(0, METADATA)
    assert connection.written == [PRODUCE, METADATA]
    assert connection._writer.close() == "closed"
    assert client.cluster == "the cluster"
