"""Publishes found rows again: handed over in bulk, one by one once the topic has refused a row."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

import structlog

from connectors.clickhouse.poller.held_rows import Sending
from connectors.clickhouse.poller.lost.search import Search
from streams.core.errors import LabelstreamError, LeaseLostError, RefusedError, UnavailableError
from streams.core.records import Outgoing, Partition, Run, by_partition
from streams.ports.kafka import BulkSender, Lease
from streams.ports.outages import settled, stopped

log = structlog.get_logger()


class PublishingError(LabelstreamError):
    """It is unknown what was written."""

    def __init__(self, cause: LabelstreamError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Republisher:
    """Sends during one ownership of the cursor. ``counts``: `recovered` (rows published again)."""

    def __init__(self, sender: BulkSender, lease: Lease, generation: int, counts: Counter[str]) -> None:
        self._sender = sender
        self._lease = lease
        self._generation = generation
        self._counts = counts
        self._sending: list[tuple[Sending, Partition]] = []  # what was sent and is not confirmed
        self._one_by_one = False

    @property
    def unconfirmed(self) -> bool:
        """Whether something was sent and is not known to be confirmed."""
        return bool(self._sending)

    async def send(self, search: Search, messages: Sequence[Outgoing]) -> bool:
        """Send ``messages`` and note them in ``search``; False if some are not confirmed, because their
        partition cannot be written now.

        Raises:
            PublishingError, LeaseLostError.
            UnavailableError: the topic refuses a row; look again at what is written, and send the rest.
        """
        if not messages:
            return True
        await self._lease.hold(self._generation)
        if not self._one_by_one:
            places = by_partition(messages, lambda message: message)
            runs = [Run.of(*one) for one in places.items()]
            with self._failures():
                self._sending = list(zip(await self._sender.hand_over(runs), places, strict=True))
            return await self.confirmed(search)
        for message in messages:
            await self._lease.hold(self._generation)
            try:
                self._note(search, message.partition, await self._sender.send(message), 1)
            except RefusedError as error:
                row_id = (message.key or b"").decode()
                log.warning("row refused by the topic", row_id=row_id, error=str(error))
        return True

    async def confirmed(self, search: Search) -> bool:
        """Whether all that was sent is confirmed; raises as `send`."""
        await settled(self._sending, lambda: stopped(self._sender.outages))
        if not all(task.done() for task, _ in self._sending):
            return False
        sent, self._sending = self._sending, []
        with self._failures():
            for task, where in sent:
                for first, count in task.result():
                    self._note(search, where.partition, first + count - 1, count)
        return True

    def _note(self, search: Search, number: int, last: int, count: int) -> None:
        search.ends[number] = max(search.ends.get(number, 0), last + 1)
        search.published += count
        self._counts["recovered"] += count

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except RefusedError as error:
            self._one_by_one = True  # any part may be written: that part is left out next time
            raise UnavailableError(f"the topic refuses a row, so they go one by one: {error}") from error
        except LeaseLostError:
            raise
        except LabelstreamError as error:
            raise PublishingError(error) from error
