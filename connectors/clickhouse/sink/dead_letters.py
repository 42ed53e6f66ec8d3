"""The sink's own dead letters, each sent once.

What it cannot store goes to the dead-letter topic, to the partition with its input's number. A crash
between that send and the commit of the input must not send it again: before it begins, a new owner
reads the tail of that partition, from the floor that the last commit's metadata names.

While a partition cannot be written, what is sent to it waits, and the commits of its input stay before it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import structlog

from connectors.clickhouse.sink.batch import Refused
from connectors.clickhouse.sink.inserter import while_ours
from streams.core.codec import LABEL_VERSION, PAYLOAD_DIGEST, digest_of, encode_dead_letter
from streams.core.context import TRACEPARENT, trace_id_in
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.losses import with_reached
from streams.core.messages import DeadLetter
from streams.core.records import TOPIC_ID, Commit, Outgoing, Partition, Record, known_in
from streams.ports.kafka import Lease, Sender, Tail
from streams.ports.outages import settled, stopped

log = structlog.get_logger()

STEP = "store"
CUT = "cut"
_DEAD_LETTER_ID = "dead-letter-id"
_AT_ONCE = 200

# A refused message: its topic's incarnation, its offset there, and what it held.
Identity = tuple[str, int, bytes]


class DeadLetters:
    """Sends what cannot be stored, and remembers what of it was sent for uncommitted input."""

    def __init__(self, topic: str, sender: Sender, tail: Tail, lease: Lease, counts: Counter[str]) -> None:
        self._topic = topic
        self._sender = sender
        self._tail = tail
        self._lease = lease
        self._counts = counts
        # For each input partition what was sent for it: the offset in the dead-letter topic.
        self._sent: dict[Partition, dict[Identity, int]] = {}
        self._ends: dict[int, int] = {}
        self._ids: Mapping[str, UUID] = {}
        self._waiting: dict[Partition, dict[Identity, asyncio.Task[None]]] = {}

    async def learn(
        self, committed: Mapping[Partition, Commit], ids: Mapping[str, UUID], generation: int
    ) -> None:
        """Read what was already sent for the uncommitted part of the partitions in ``committed``. Nothing may
        be waiting: see `over` and `stop`.

        ``ids``: the incarnations of their topics, and of the dead-letter topic.
        """
        inputs = {p: commit for p, commit in committed.items() if p.topic != self._topic}
        self._ids = ids
        self._sent = {partition: {} for partition in inputs}
        self._ends = {}
        floors: dict[int, int] = {}
        for partition, commit in inputs.items():
            floor = self._floor_in(commit.metadata)
            floors[partition.partition] = min(floor, floors.get(partition.partition, floor))
        starts = {Partition(self._topic, number): floor for number, floor in floors.items()}
        await while_ours(self._lease, generation, "Kafka", lambda: self._read(starts, inputs))

    async def send(self, refused: Sequence[Refused], generation: int) -> None:
        """Send those of ``refused`` that were not sent yet; returns when all are confirmed, apart from those
        that are `waiting`.

        Raises:
            LeaseLostError: the partitions are no longer ours.
        """
        self._end_waits()
        new = [one for one in refused if not self._knows(one.record)]
        self._counts["dead_letters_known"] += len(refused) - len(new)
        for start in range(0, len(new), _AT_ONCE):
            sending = [
                (one, asyncio.create_task(self._send(one, generation)))
                for one in new[start : start + _AT_ONCE]
            ]
            for one, task in sending:
                self._waiting.setdefault(_partition(one.record), {})[self._identity(one.record)] = task
            await settled(
                [(task, Partition(self._topic, one.record.partition)) for one, task in sending],
                lambda: stopped(self._sender.outages),
            )
            self._end_waits()
            if sum(map(len, self._waiting.values())) >= _AT_ONCE:
                await self.over()
        if new:
            log.warning(
                "dead_letters",
                step=STEP,
                count=len(new),
                reasons=dict(Counter(one.reason for one in new)),
                first=new[0].record.source,
                error=new[0].error[:300],
                rows=[_row_of(one) for one in new[:5]],
                trace_ids=[trace_id_in(one.record.header(TRACEPARENT)) for one in new[:5]],
            )

    def waiting(self, partition: Partition) -> int | None:
        """The first offset of ``partition`` whose dead letter is not confirmed; None for none.

        Raises:
            LeaseLostError: as `send`.
        """
        self._end_waits()
        return min((offset for _, offset, _ in self._waiting.get(partition, ())), default=None)

    async def over(self) -> None:
        """Wait until all are confirmed. Raises as `send`."""
        tasks = [task for some in self._waiting.values() for task in some.values()]
        if tasks:
            await asyncio.wait(tasks)
        self._end_waits()

    def stop(self) -> None:
        """Wait for nothing any more: the producer is fenced, or will be."""
        for task in [task for some in self._waiting.values() for task in some.values()]:
            task.cancel()
        self._waiting = {}

    def _knows(self, record: Record) -> bool:
        identity, partition = self._identity(record), _partition(record)
        return identity in self._sent[partition] or identity in self._waiting.get(partition, ())

    def _end_waits(self) -> None:
        ended = []
        for partition, some in list(self._waiting.items()):
            ended += [task for task in some.values() if task.done()]
            left = {identity: task for identity, task in some.items() if not task.done()}
            self._waiting[partition] = left
            if not left:
                del self._waiting[partition]
        for task in ended:
            task.result()

    def metadata(self, partition: Partition, position: int, reached: int | None = None, cut: int = 0) -> str:
        """What a later owner of ``partition`` must know if ``position`` is committed. ``reached``: the time
        of the row before it. ``cut``: offsets below it were those of other messages before."""
        known: dict[str, Any] = {TOPIC_ID: str(self._ids[partition.topic])}
        if cut > position:
            known[CUT] = cut
        if partition in self._sent:
            sent = self._sent[partition]
            for identity in [one for one in sent if one[1] < position]:
                del sent[identity]
            known[self._topic] = min(sent.values(), default=self._ends.get(partition.partition, 0))
            known[_DEAD_LETTER_ID] = str(self._ids[self._topic])
        return orjson.dumps(with_reached(known, reached)).decode()

    async def _read(self, starts: Mapping[Partition, int], inputs: Mapping[Partition, Commit]) -> None:
        bounds = await self._tail.written_many(starts)
        async for records in self._tail.read_many(starts, bounds):
            for record in records:
                self._remember(record, inputs)
        for where, (_, end) in bounds.items():
            self._ends[where.partition] = max(end, self._ends.get(where.partition, 0))

    def _remember(self, record: Record, inputs: Mapping[Partition, Commit]) -> None:
        if record.header("step") != STEP.encode():
            return
        try:
            origin = Partition((record.header("topic") or b"").decode(), record.partition)
            offset = int(record.header("offset") or b"-1")
            topic_id = (record.header(TOPIC_ID) or b"").decode()
        except ValueError:
            return
        if origin in inputs and offset >= inputs[origin].offset and topic_id == str(self._ids[origin.topic]):
            digest = record.header(PAYLOAD_DIGEST) or digest_of(record.value)
            self._sent[origin][(topic_id, offset, digest)] = record.offset

    def _identity(self, record: Record) -> Identity:
        return str(self._ids[record.topic]), record.offset, digest_of(record.value)

    async def _send(self, refused: Refused, generation: int) -> None:
        record = refused.record
        offset = await while_ours(self._lease, generation, "Kafka", lambda: self._out(refused, generation))
        self._sent[_partition(record)][self._identity(record)] = offset
        self._ends[record.partition] = max(self._ends.get(record.partition, 0), offset + 1)
        self._counts["dead_letters"] += 1
        self._counts[f"dead_letters:{refused.reason}"] += 1

    async def _out(self, refused: Refused, generation: int) -> int:
        await self._lease.hold(generation)
        try:
            return await self._sender.send(self._message(refused, whole=True))
        except RefusedError:
            # Too large for the topic: without its bytes, the origin says where they are.
            await self._lease.hold(generation)
        try:
            return await self._sender.send(self._message(refused, whole=False))
        except RefusedError as error:
            raise ConfigurationError(
                f"topic {self._topic} takes not even a small message: {error}",
                setting="TOPIC_PREFIX",
                fix="compare its configuration with `labelstream check`",
            ) from error

    def _message(self, refused: Refused, *, whole: bool) -> Outgoing:
        record = refused.record
        letter = DeadLetter(
            row_id=refused.row_id,
            step=STEP,
            reason=refused.reason,
            error=refused.error,
            failed_at=datetime.now(UTC),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            payload=(record.value or b"") if whole else b"",
        )
        value, headers = encode_dead_letter(letter)
        headers.append((PAYLOAD_DIGEST, digest_of(record.value)))
        headers.append((TOPIC_ID, str(self._ids[record.topic]).encode()))
        if (trace := record.header(TRACEPARENT)) is not None:
            headers.append((TRACEPARENT, trace))
        if refused.label_version:
            headers.append((LABEL_VERSION, refused.label_version.encode()))
        return Outgoing(self._topic, record.partition, record.key if whole else None, value, headers)

    def _floor_in(self, metadata: str) -> int:
        found = known_in(metadata)
        floor = found.get(self._topic)
        same = found.get(_DEAD_LETTER_ID) == str(self._ids[self._topic])
        return floor if same and isinstance(floor, int) else 0


def _row_of(refused: Refused) -> str:
    return refused.row_id or (refused.record.key or b"").decode("utf-8", "replace")


def _partition(record: Record) -> Partition:
    return Partition(record.topic, record.partition)
