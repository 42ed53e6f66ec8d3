"""The last check before the broker: nothing is written without the lease, nor after a fence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.errors import NodeNotReadyError

_PRODUCE = b"\x00\x00"


class LeaseAwayError(Exception):
    """Nothing was written. It is no Kafka error, so that aiokafka does not handle it."""


class _LastLook:
    """The writer of a connection, which checks the lease once more when the request is already encoded.

    Encoding takes some tenths of a millisecond, and longer if another thread runs meanwhile. In two of
    eighteen runs of the fault tests a process was paused there, and when it woke it wrote what its successor
    had written meanwhile.
    """

    def __init__(self, writer: Any, held: Callable[[], bool]) -> None:
        self._writer = writer
        # Straight to the transport: in that of uvloop, without TLS, no other thread can run before the write.
        self._write = writer.transport.write
        self._held = held

    def write(self, data: bytes) -> None:
        """Raises LeaseAwayError for a produce request that may not be sent."""
        # Four bytes of size, then the kind of the request.
        if data[4:6] == _PRODUCE and not self._held():
            raise LeaseAwayError
        self._write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class GatedClient:
    """aiokafka's client for a sender: before a produce request is written, the lease is checked."""

    def __init__(self, client: Any, held: Callable[[], bool]) -> None:
        self._client = client
        self._held = held

    async def send(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        # Connect first: nothing is awaited between this and the write.
        if not await self._client.ready(node_id, group=group):
            raise NodeNotReadyError(f"no connection to node {node_id}")
        connection = self._client._conns.get((node_id, group))
        if connection is None or not connection.connected():  # it was just opened, and lost again
            raise NodeNotReadyError(f"the connection to node {node_id} is closed")
        if not isinstance(connection._writer, _LastLook):
            connection._writer = _LastLook(connection._writer, self._held)
        return await self._client.send(node_id, request, group=group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
