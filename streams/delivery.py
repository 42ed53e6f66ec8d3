"""Delivery: turns what a step says about a message into sends, dead letters, pauses and commits.

Steps return outcomes (`streams/outcomes.py`); nobody but this module decides what becomes of a
message. Many are in flight; an output is confirmed before its input counts as finished; only the
contiguous finished prefix is committed; before every output stands the lease; and what a former
owner had published is skipped, because the tail of the output was read first.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from streams.codec import (
    CREATED_AT,
    LABEL_VERSION,
    created_at_header,
    decode,
    encode,
    encode_dead_letter,
    headers_of,
)
from streams.errors import LabelstreamError, LeaseLostError, RefusedError, UndecodableError
from streams.memory import (
    PAYLOAD_DIGEST,
    Memory,
    bytes_identity,
    dead_letter_identity,
    digest_of,
    published_identity,
    row_identity,
)
from streams.messages import DeadLetter, Row
from streams.outcomes import Done, Reject, Retry
from streams.ports import Commit, Lease, Outgoing, Partition, Record, Sender, Tail, TopicIds
from streams.window import Slot, Window, floors_of, made_anew

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Stage:
    """A step's place in the flow: what it reads, in order of urgency, and where it writes."""

    name: str
    inputs: tuple[str, ...]
    output: str
    dead_letter: str
    reads: type[Row]


@dataclass(frozen=True)
class Limits:
    """How much one worker takes on.

    ``span``: most offsets between the oldest and the newest message in flight of a partition, which
    bounds what a next owner has to read. ``queue``: messages of a partition that may wait here before
    the consumer is told to hold it back. ``attempts``: suspect failures before a message is given up.
    """

    in_flight: int
    span: int = 1000
    queue: int = 64
    attempts: int = 5
    longest_pause: float = 30.0


class _Input:
    """One input partition that this worker owns."""

    def __init__(self, window: Window, memory: Memory) -> None:
        self.window = window
        self.memory = memory
        self.waiting: deque[Record] = deque()


class Delivery:
    """Delivers for one stage. Single-threaded: everything runs in one event loop."""

    def __init__(
        self,
        stage: Stage,
        step: Callable[[Any], Awaitable[Any]],
        version_of: Callable[[Any], str],
        *,
        sender: Sender,
        tail: Tail,
        topic_ids: TopicIds,
        lease: Lease,
        limits: Limits,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """``version_of`` tells under which label version a message's output will stand."""
        self.stage = stage
        self.counts: Counter[str] = Counter()
        self._step = step
        self._version_of = version_of
        self._sender = sender
        self._tail = tail
        self._topic_ids = topic_ids
        self._lease = lease
        self._limits = limits
        self._sleep = sleep
        self._generation = -1
        self._inputs: dict[Partition, _Input] = {}
        self._running: dict[asyncio.Task[None], bool] = {}  # task -> handed its output to the sender
        self._turn: deque[Partition] = deque()
        self._underway: dict[tuple[int, bytes], asyncio.Future[None]] = {}

    # --- ownership ---

    async def assigned(
        self, committed: Mapping[Partition, Commit], generation: int
    ) -> dict[Partition, Commit]:
        """Take partitions over: read what their former owner has published since its last commit.

        Returns what must be committed at once: the beginning of those partitions whose topic was
        deleted and made again since they were committed.

        Raises:
            UnavailableError: Kafka does not answer; nothing was taken over.
        """
        outputs = (self.stage.output, self.stage.dead_letter)
        names = sorted({partition.topic for partition in committed} | set(outputs))
        ids = {name: str(found) for name, found in (await self._topic_ids.topic_ids(names)).items()}
        anew = {p for p, c in committed.items() if made_anew(c.metadata, p.topic, ids[p.topic])}
        starts: dict[Partition, int] = {}
        for number in {partition.partition for partition in committed}:
            floors = [
                # Rows of a topic made anew may be any that were published: the whole output is read.
                {} if partition in anew else floors_of(commit.metadata, ids)
                for partition, commit in committed.items()
                if partition.partition == number and commit.offset >= 0
            ]
            for topic in outputs:
                starts[Partition(topic, number)] = min((one.get(topic, 0) for one in floors), default=0)
        bounds = await self._tail.bounds_many(list(starts))
        memories = {number: Memory() for number in {where.partition for where in starts}}
        async for records in self._tail.read_many(starts):
            for record in records:
                identity = (
                    published_identity(record)
                    if record.topic == self.stage.output
                    else dead_letter_identity(record, self.stage.name)
                )
                if identity is not None:
                    memories[record.partition].learn(identity)
        self._inputs = {}
        for partition, commit in committed.items():
            position = 0 if partition in anew else max(commit.offset, 0)
            ends = {topic: bounds[Partition(topic, partition.partition)][1] for topic in outputs}
            window = Window(position, ends, {name: ids[name] for name in (partition.topic, *outputs)})
            self._inputs[partition] = _Input(window, memories[partition.partition])
        self._turn = deque(sorted(self._inputs))
        self._generation = generation
        return {partition: self._inputs[partition].window.commit() for partition in anew}

    async def revoked(self, *, owner: bool, seconds: float) -> bool:
        """Settle: stop what is still with the model, await what was handed to the sender.

        Returns False if something is left unsettled: then the sender must be fenced. With
        ``owner=False`` the group has already given us up, and nothing is awaited.
        """
        for state in self._inputs.values():
            state.waiting.clear()
        for task, handed_over in list(self._running.items()):
            if not (owner and handed_over):
                task.cancel()
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)
        settled = owner and not self._running
        for task in list(self._running):
            task.cancel()
        return settled

    def forget(self) -> None:
        """After the last commit: nothing is owned any more."""
        self._inputs = {}
        self._turn.clear()
        self._generation = -1

    def commits(self) -> dict[Partition, Commit]:
        """Where each owned partition may be committed."""
        return {partition: state.window.commit() for partition, state in self._inputs.items()}

    # --- intake ---

    def offer(self, record: Record, generation: int) -> None:
        """Take a message that the consumer read. Never waits; see `crowded`."""
        state = self._inputs.get(Partition(record.topic, record.partition))
        if state is None or generation != self._generation:
            return  # read under an ownership that is over; its next owner reads it again
        state.waiting.append(record)
        self._pump()

    def crowded(self) -> set[Partition]:
        """The partitions that should not be fetched from now."""
        return {
            partition for partition, state in self._inputs.items() if len(state.waiting) >= self._limits.queue
        }

    @property
    def in_flight(self) -> int:
        return len(self._running)

    def _pump(self) -> None:
        while len(self._running) < self._limits.in_flight:
            partition = self._next_partition()
            if partition is None:
                return
            state = self._inputs[partition]
            record = state.waiting.popleft()
            slot = state.window.admit(record.offset)
            if slot is None:
                continue
            task = asyncio.get_running_loop().create_task(
                self._deliver(state, record, slot, self._generation)
            )
            self._running[task] = False
            task.add_done_callback(self._finished)

    def _next_partition(self) -> Partition | None:
        """Round robin over the most urgent topic that has a message and room in its window."""
        for topic in self.stage.inputs:
            for _ in range(len(self._turn)):
                self._turn.rotate(-1)
                partition = self._turn[-1]
                state = self._inputs[partition]
                if partition.topic == topic and state.waiting and state.window.span < self._limits.span:
                    return partition
        return None

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            # Cannot happen by design: _deliver lets nothing escape. The message stays uncommitted.
            log.error("delivery_failed", stage=self.stage.name, error=repr(error))
        self._pump()

    # --- one message ---

    async def _deliver(self, state: _Input, record: Record, slot: Slot, generation: int) -> None:
        try:
            identity, message, broken = self._read(record)
            # The same row twice at once (a live one and its replay): the second waits for the first.
            while (other := self._underway.get((record.partition, identity))) is not None:
                await asyncio.wait([other])
            if identity in state.memory:
                self.counts["known"] += 1
                state.window.finish(slot)
                return
            done = asyncio.get_running_loop().create_future()
            self._underway[(record.partition, identity)] = done
            try:
                output = broken if message is None else await self._work(message, record)
                await self._publish(state, record, output, message, generation)
                state.memory.add(identity)
                state.window.finish(slot)
            finally:
                del self._underway[(record.partition, identity)]
                done.set_result(None)
        except LeaseLostError:
            return  # another owns the partition now, or will read it again

    def _read(self, record: Record) -> tuple[bytes, Row | None, Reject | None]:
        try:
            message = decode(self.stage.reads, record.value)
        except UndecodableError as error:
            return (
                bytes_identity(record.source, digest_of(record.value)),
                None,
                Reject(error.reason, str(error)),
            )
        identity = row_identity(
            message.row_id.encode(), created_at_header(message), self._version_of(message).encode()
        )
        return identity, message, None

    async def _work(self, message: Row, record: Record) -> Done[Any] | Reject:
        """Ask the step until it decides. Only failures of this very message, while others succeed, count
        against it: an outage is nobody's fault, however long it takes."""
        attempts, pause = 0, 0.0
        while True:
            successes = self.counts["done"]
            try:
                outcome = await self._step(message)
            except Exception as error:
                log.exception("step_failed", stage=self.stage.name, row_id=message.row_id)
                outcome = Retry(1.0, f"unexpected {type(error).__name__}: {error}", suspect=True)
            if not isinstance(outcome, Retry):
                return outcome  # type: ignore[no-any-return]
            self.counts["retries"] += 1
            pause = min(max(outcome.after, pause * 2, 0.2), max(self._limits.longest_pause, outcome.after))
            await self._sleep(pause * random.uniform(0.8, 1.2))
            if outcome.suspect and self.counts["done"] > successes:
                attempts += 1
                if attempts >= self._limits.attempts:
                    return Reject("gave-up", outcome.reason, attempts)

    async def _publish(
        self, state: _Input, record: Record, output: Any, message: Row | None, generation: int
    ) -> None:
        if isinstance(output, Done):
            outgoing = Outgoing(
                self.stage.output,
                record.partition,
                output.message.row_id.encode(),
                encode(output.message),
                headers_of(output.message, source=record.source),
            )
            try:
                await self._send(state, outgoing, generation)
            except RefusedError as error:
                output = Reject(error.reason, str(error))
            else:
                self.counts["done"] += 1
                return
        letter = self._dead_letter(record, output, message, keep_bytes=True)
        try:
            await self._send(state, letter, generation)
        except RefusedError:
            # Too large for the topic: the origin in the headers says where the bytes are.
            await self._send(state, self._dead_letter(record, output, message, keep_bytes=False), generation)
        self.counts["dead_letters"] += 1
        self.counts[f"dead_letters:{output.reason}"] += 1
        log.warning("dead_letter", stage=self.stage.name, source=record.source, reason=output.reason)

    async def _send(self, state: _Input, outgoing: Outgoing, generation: int) -> None:
        while True:
            await self._lease.hold(generation)
            task = asyncio.current_task()
            assert task is not None
            self._running[task] = True
            try:
                offset = await self._sender.send(outgoing)
            except (LeaseLostError, RefusedError):
                raise
            except LabelstreamError as error:
                log.warning("send_waits", stage=self.stage.name, error=str(error))
                await self._sleep(1.0)
            else:
                state.window.sent(outgoing.topic, offset)
                return
            finally:
                self._running[task] = False

    def _dead_letter(
        self, record: Record, reject: Reject, message: Row | None, *, keep_bytes: bool
    ) -> Outgoing:
        letter = DeadLetter(
            row_id=message.row_id if message else "",
            step=self.stage.name,
            reason=reject.reason,
            error=reject.error,
            attempts=reject.attempts,
            failed_at=datetime.now(UTC),
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            payload=(record.value or b"") if keep_bytes else b"",
        )
        value, headers = encode_dead_letter(letter)
        headers.append((PAYLOAD_DIGEST, digest_of(record.value)))
        if message is not None:
            headers.append((CREATED_AT, created_at_header(message)))
            headers.append((LABEL_VERSION, self._version_of(message).encode()))
        return Outgoing(self.stage.dead_letter, record.partition, record.key or b"", value, headers)
