"""The search's memory on the cursor topic: its progress, and which losses are repaired."""

from __future__ import annotations

import contextlib

import orjson
from pydantic import ValidationError

from connectors.clickhouse.poller.lost.search import Search
from streams.core.losses import Loss, Losses
from streams.core.records import Outgoing
from streams.ports.kafka import Lease, Sender, Tail

_KEY = "lost-rows/"


class SearchLog:
    """Of one source table, during one ownership of the cursor."""

    def __init__(
        self,
        source: str,
        cursor: str,
        losses: Losses,
        tail: Tail,
        sender: Sender,
        lease: Lease,
        generation: int,
    ) -> None:
        """``source``: the table's name. ``cursor``: the topic. ``losses``: kept up to date."""
        self._key = f"{_KEY}{source}".encode()
        self._cursor = cursor
        self._losses = losses
        self._tail = tail
        self._sender = sender
        self._lease = lease
        self._generation = generation

    async def newest(self) -> Search | None:
        """The search that was saved last; None if there was none."""
        found: Search | None = None
        async for records in self._tail.read(self._cursor, 0, 0):
            for record in records:
                if record.key == self._key:
                    with contextlib.suppress(ValidationError):
                        found = Search.model_validate_json(record.value or b"")
        return found

    async def save(self, search: Search) -> None:
        """Save its progress.

        Raises:
            RetryableError, LeaseLostError.
        """
        await self._lease.hold(self._generation)
        value = orjson.dumps(search.model_dump(), option=orjson.OPT_NON_STR_KEYS)
        await self._sender.send(Outgoing(self._cursor, 0, self._key, value))

    async def closed(self, loss: Loss) -> None:
        """``loss`` is repaired, or concerns no rows; raises as `save`."""
        await self._lease.hold(self._generation)
        await self._sender.send(loss.closed_message(self._cursor))
        self._losses.close(loss)
