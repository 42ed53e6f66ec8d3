"""Sends results and dead letters, each with a valid lease, and records them once they are confirmed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from streams.core.codec import RECOVERED, REPLAY_JOB, RETRY_OF, encode, headers_of
from streams.core.errors import LabelstreamError, LeaseLostError, RefusedError
from streams.core.messages import Row
from streams.core.outcomes import Done, Reject
from streams.core.records import Outgoing, Record
from streams.delivery.dead_letters import dead_letter
from streams.delivery.deduplication import retry_identity
from streams.delivery.in_flight import Work
from streams.delivery.routes import Flow
from streams.ports.kafka import Lease, Sender

log = structlog.get_logger()


class Outbox:
    """Sends for one delivery. ``counts`` are its counters; ``observe`` is called with each live message."""

    def __init__(
        self,
        flow: Flow,
        sender: Sender,
        lease: Lease,
        counts: Counter[str],
        *,
        sleep: Callable[[float], Awaitable[None]],
        observe: Callable[[Row], None],
    ) -> None:
        self._flow = flow
        self._sender = sender
        self._lease = lease
        self._counts = counts
        self._sleep = sleep
        self._observe = observe

    def retry_of(self, record: Record) -> bytes | None:
        """The dead letter that is retried. Its results downstream are ordinary messages."""
        return record.header(RETRY_OF) if record.topic in self._flow.replays else None

    async def publish(self, work: Work, output: Done[Any] | Reject) -> None:
        """Send the result, or a dead letter, and record it.

        Raises:
            LeaseLostError: another process owns the partition, or it is unknown what was written.
        """
        record, memory, name = work.record, work.state.memory, work.route.name
        retry_of = self.retry_of(record)
        if isinstance(output, Done):
            headers = headers_of(output.message, source=record.source, trace=work.trace)
            if (job := record.header(REPLAY_JOB)) is not None:
                headers.append((REPLAY_JOB, job))
            if retry_of is not None:
                headers.append((RETRY_OF, retry_of))
            if (recovered := record.header(RECOVERED)) is not None:
                headers.append((RECOVERED, recovered))
            key, value = output.message.row_id.encode(), encode(output.message)
            if work.span is not None and work.span.context is not None:
                work.span.happened("publish")
            try:
                await self._send(work, Outgoing(work.route.output, record.partition, key, value, headers))
            except RefusedError as error:
                output = Reject(error.reason, str(error))
            else:
                memory.published.add(work.identity)
                if retry_of is not None:
                    memory.published.learn(retry_identity(name, retry_of))
                self._counts[f"done:{name}"] += 1
                if work.span is not None:
                    work.span.end(output.message.label_version, output.message)
                if record.topic not in self._flow.replays:
                    self._observe(output.message)
                return
        if work.span is not None:
            work.span.rejected()
        version = work.route.version_of(work.message) if work.message is not None else None
        for whole in (True, False):
            letter = dead_letter(
                record,
                output,
                name,
                work.message,
                version,
                topic=self._flow.dead_letter,
                whole=whole,
                retry_of=retry_of,
                trace=work.trace,
            )
            try:
                await self._send(work, letter)
                break
            except RefusedError:
                # Too large for the topic: the origin in the headers says where the bytes are.
                if not whole:
                    raise
        if retry_of is None:
            memory.given_up.add(work.identity)
        else:
            memory.given_up.learn(retry_identity(name, retry_of))
        self._counts[f"dead_letters:{name}"] += 1
        self._counts[f"dead_letters:{name}:{output.reason}"] += 1
        if work.span is not None:
            work.span.end(version, output)
        log.warning("dead_letter", step=name, source=record.source, reason=output.reason, error=output.error)

    async def _send(self, work: Work, outgoing: Outgoing) -> None:
        while True:
            await self._lease.hold(work.generation)
            work.slot.handed_over(work.state.ends, outgoing.topic)
            work.handed_over = True
            try:
                offset = await self._sender.send(outgoing)
            except (LeaseLostError, RefusedError):
                raise
            except LabelstreamError as error:
                log.warning("send_waits", step=work.route.name, error=str(error))
                work.handed_over = False
                await self._sleep(1.0)
            else:
                work.state.ends.sent(outgoing.topic, offset)
                return
            finally:
                work.handed_over = False
