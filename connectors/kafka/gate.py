"""The gate before the broker: nothing is written without the lease, nor after a fence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from aiokafka.client import ConnectionGroup
from aiokafka.errors import NodeNotReadyError
from aiokafka.producer.sender import Sender as AioSender

from streams.core.errors import LeaseLostError
from streams.ports.kafka import Lease

_LOOK_AGAIN = 0.02
_PRODUCE = b"\x00\x00"


class _LeaseAwayError(Exception):
    """Nothing was written. No Kafka error: aiokafka shall not handle it."""


class _LastLook:
    """A connection's writer that looks at the lease once more, with the request's bytes in its hands.

    To encode a request takes some tenths of a millisecond, and longer where another thread cuts in. In two
    of eighteen runs of the fault suite a process was stopped just there, and wrote when it woke what its heir
    had written meanwhile.
    """

    def __init__(self, writer: Any, held: Callable[[], bool]) -> None:
        self._writer = writer
        # Straight to the transport: in uvloop's, without TLS, no other thread can cut in before it.
        self._write = writer.transport.write
        self._held = held

    def write(self, data: bytes) -> None:
        """Raises _LeaseAwayError for a produce request that may not go out."""
        # Four bytes of size, then the request's kind.
        if data[4:6] == _PRODUCE and not self._held():
            raise _LeaseAwayError
        self._write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._writer, name)


class _GatedClient:
    """aiokafka's client for a sender: what writes its produce requests looks at the lease last."""

    def __init__(self, client: Any, held: Callable[[], bool]) -> None:
        self._client = client
        self._held = held

    async def send(self, node_id: int, request: Any, *, group: Any = ConnectionGroup.DEFAULT) -> Any:
        # Connect first: nothing is awaited between this and the write.
        if not await self._client.ready(node_id, group=group):
            raise NodeNotReadyError(f"no connection to node {node_id}")
        connection = self._client._conns.get((node_id, group))
        if connection is None or not connection.connected():  # it has just been made, and lost
            raise NodeNotReadyError(f"the connection to node {node_id} is closed")
        if not isinstance(connection._writer, _LastLook):
            connection._writer = _LastLook(connection._writer, self._held)
        return await self._client.send(node_id, request, group=group)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class GatedSender(AioSender):
    """aiokafka's sender, with a look at the lease before a request is made and one as it is written."""

    client: Any
    lease: Lease | None = None
    fenced = False

    async def _send_produce_req(self, node_id: int, batches: dict[Any, Any]) -> None:
        while not self.fenced:
            if not self._may_send():
                await asyncio.sleep(_LOOK_AGAIN)
                continue
            with contextlib.suppress(_LeaseAwayError):
                await super()._send_produce_req(node_id, batches)
                return
        for batch in batches.values():
            batch.failure(exception=LeaseLostError("taken back before it was sent"))

    def watch(self, lease: Lease | None) -> None:
        """Send only while ``lease`` is held; None: always."""
        self.lease = lease
        self.client = _GatedClient(self.client, self._may_send)

    def _may_send(self) -> bool:
        return not self.fenced and (self.lease is None or self.lease.held())
