"""Delivery: turns a step's outcomes into sends, dead letters, pauses and commits.

Steps return outcomes (`streams/core/outcomes.py`). Only this module, with `concurrency.py` (how many at once)
and `outbox.py` (sending), decides what happens to a message. Many messages are in flight. An output is
confirmed before its input counts as finished, and only the contiguous finished prefix is committed. Every
output needs a valid lease. What a former owner has published is skipped, because the tail of the output is
read first.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from streams.core.codec import created_at_header, decode, digest_of
from streams.core.context import AT_WORK, REPLAY
from streams.core.errors import LeaseLostError, UndecodableError
from streams.core.losses import time_of
from streams.core.messages import Row
from streams.core.outcomes import Done, Reject, Retry
from streams.core.records import Commit, Partition, Record, made_anew
from streams.delivery.commit_window import Start, Window
from streams.delivery.concurrency import Places
from streams.delivery.deduplication import (
    bytes_identity,
    recovered_by,
    retry_identity,
    row_identity,
    wanted_again,
)
from streams.delivery.in_flight import Input, Work
from streams.delivery.ordered_input import OrderedInput
from streams.delivery.outbox import Outbox
from streams.delivery.recovery import Takeover
from streams.delivery.routes import Flow, Limits
from streams.ports.kafka import Lease, Sender, Tail, TopicIds

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]
Observe = Callable[[Row], None]
Full = Callable[[Partition], bool]
Report = Callable[[Partition, str, int, int, int | None, int], Awaitable[None]]

_FINISH_SECONDS = 2.0  # of a revocation; only after a pause is the lease older than that


async def _nobody(*_: object) -> None:
    """The default: losses are not reported."""


class Delivery:
    """Delivers for one worker. Single-threaded: everything runs in one event loop.

    ``counts``, each with the step's name after a colon: `done`, `known` (published by a former owner),
    `unwanted` (of a dropped replay), `retries`, `dead_letters`; and `dead_letters:STEP:REASON`.
    """

    def __init__(
        self,
        flow: Flow,
        *,
        sender: Sender,
        tail: Tail,
        topic_ids: TopicIds,
        lease: Lease,
        limits: Limits,
        sleep: Sleep = asyncio.sleep,
        observe: Observe = lambda message: None,
        report: Report = _nobody,
        full: Full = lambda partition: False,
    ) -> None:
        """``observe`` is called with each live message after it is published. ``report``: called for messages
        that retention removed unread, see `LossReporter.report`. ``full``: whether an output's readers are so
        far behind that nothing should be written to it; see `resume`.
        """
        self.flow = flow
        self.counts: Counter[str] = Counter()
        self.unsure = ""  # why only a restart can help
        self._tail = tail
        self._takeover = Takeover(flow, tail, limits.recalled)
        self._topic_ids = topic_ids
        self._lease = lease
        self._limits = limits
        # Answers may all arrive at once: then each step needs enough waiting messages, whatever their
        # partition.
        self._enough = max(limits.queue, *limits.in_flight.values(), 0)
        self._sleep = sleep
        self._full = full
        self._report = report
        self._outbox = Outbox(flow, sender, lease, self.counts, sleep=sleep, observe=observe)
        self._generation = -1
        self._inputs: dict[Partition, Input] = {}
        self._running: dict[asyncio.Task[None], Work] = {}
        self._places = Places(limits, flow.replays)
        self._turns: dict[str, deque[Partition]] = {}
        self._underway: dict[tuple[int, bytes], asyncio.Future[None]] = {}

    # --- ownership ---

    async def assigned(
        self, committed: Mapping[Partition, Commit], generation: int
    ) -> dict[Partition, Commit]:
        """Take over partitions: read what their former owner has published since its last commit.

        Returns what must be committed at once: the beginning of those partitions whose topic was recreated
        since their last commit.

        Raises:
            UnavailableError: Kafka does not answer; nothing was taken over.
        """
        outputs = (*self.flow.outputs, self.flow.dead_letter)
        names = sorted({partition.topic for partition in committed} | set(outputs))
        ids = {name: str(found) for name, found in (await self._topic_ids.topic_ids(names)).items()}
        firsts = await self._tail.firsts(list(committed))
        anew = {p for p, c in committed.items() if made_anew(c.metadata, p.topic, ids[p.topic])}
        taken = await self._takeover.read(committed, anew, ids)
        starts = {
            p: Start.of(c, firsts[p], p in anew, taken.floors[p.partition]) for p, c in committed.items()
        }
        for partition, start in starts.items():
            if start.lost is not None:
                await self._report(partition, ids[partition.topic], *start.lost, start.reached, generation)
        self._inputs = {}
        for partition in committed:
            number = partition.partition
            start, floors = starts[partition], taken.floors[number]
            window = Window(
                start.position,
                floors,
                {name: ids[name] for name in (partition.topic, *outputs)},
                before=taken.befores[number],
                reach=taken.reach.get(partition, 0),
                reached=start.reached,
            )
            state = Input(window, taken.memories[number], floors)
            take = partial(self._take, state)
            lost = partial(self._lost, state, partition, ids[partition.topic], generation)
            state.intake = OrderedInput(
                partition, start.position, self._tail, take, self._sleep, self._pump, self._broken, lost
            )
            self._inputs[partition] = state
        self._turns = {
            topic: deque(sorted(p for p in self._inputs if p.topic == topic)) for topic in self.flow.inputs
        }
        self._generation = generation
        return {partition: self._inputs[partition].window.commit() for partition in anew}

    async def revoked(self, *, owner: bool, seconds: float) -> bool:
        """Wait shortly for running calls to the model, cancel the rest, and await what was passed to the
        sender.

        Returns False if something is left: then the sender must be fenced. With ``owner=False`` the group has
        already reassigned the partitions, and nothing is awaited.
        """
        for state in self._inputs.values():
            state.intake.close()
            state.waiting.clear()
        ends = asyncio.get_running_loop().time() + seconds
        if owner and self._running:
            # Their calls are running: the next owner of the partitions would have to repeat them.
            await asyncio.wait(list(self._running), timeout=min(_FINISH_SECONDS, seconds / 2))
        for task, work in list(self._running.items()):
            if not (owner and work.handed_over):
                task.cancel()
        if self._running:
            left = ends - asyncio.get_running_loop().time()
            await asyncio.wait(list(self._running), timeout=max(left, 0.1))
        settled = owner and not self._running
        for task in list(self._running):
            task.cancel()
        return settled

    def forget(self) -> None:
        """After the last commit: no partition is owned any more."""
        self._inputs = {}
        self._turns = {}
        self._generation = -1
        self.unsure = ""

    def owed(self) -> dict[Partition, int]:
        """The next offset that is expected from the consumer, for each owned partition."""
        return {partition: state.intake.next for partition, state in self._inputs.items()}

    def commits(self) -> dict[Partition, Commit]:
        """The position up to which each owned partition may be committed."""
        return {partition: state.window.commit() for partition, state in self._inputs.items()}

    # --- input ---

    def offer(self, record: Record, generation: int) -> None:
        """Take a message from the consumer. Never waits; see `crowded`."""
        self.offer_all([record], generation)

    def offer_all(self, records: Sequence[Record], generation: int) -> None:
        """The same for several of one partition, in order."""
        state = self._inputs.get(Partition(records[0].topic, records[0].partition)) if records else None
        if state is None or generation != self._generation:
            return  # read in a former assignment; the next owner reads it again
        for record in records:
            state.intake.offer(record)
        self._pump()

    async def look(self) -> None:
        """Find expected messages that retention removed, if no message comes after them.

        Raises:
            UnavailableError, AccessError.
        """
        owned = dict(self._inputs)
        for partition, first in (await self._tail.firsts(list(owned))).items():
            owned[partition].intake.look(first)

    async def _lost(
        self, state: Input, partition: Partition, topic_id: str, generation: int, start: int, end: int
    ) -> None:
        await self._report(partition, topic_id, start, end, state.window.reached, generation)
        state.window.pass_over(end)

    def _take(self, state: Input, record: Record) -> None:
        state.waiting.append((record, self.flow.route(record)))

    def crowded(self) -> set[Partition]:
        """The partitions that should not be fetched from now."""
        return {
            partition
            for partition, state in self._inputs.items()
            if len(state.waiting) + state.intake.held >= self._enough
        }

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Messages that were read and are not started."""
        return sum(len(state.waiting) for state in self._inputs.values())

    def resume(self) -> None:
        """Start waiting messages, now that an output's readers have caught up."""
        self._pump()

    def _pump(self) -> None:
        """Start what can be started: the most urgent topic first, its partitions in turn."""
        for topic in self.flow.inputs:
            turn = self._turns.get(topic) or deque()
            idle = 0
            while idle < len(turn):
                state = self._inputs[turn[0]]
                if not state.waiting or self._held_back(state):
                    idle += 1
                elif self._places.full(*state.waiting[0]):
                    if topic not in self.flow.replays:
                        break  # all partitions of the topic use the same step
                    idle += 1
                else:
                    self._begin(state)
                    idle = 0
                turn.rotate(-1)

    def _held_back(self, state: Input) -> bool:
        record, route = state.waiting[0]
        outputs = (route.output, self.flow.dead_letter)
        return state.window.span >= self._limits.span or any(
            self._full(Partition(topic, record.partition)) for topic in outputs
        )

    def _begin(self, state: Input) -> None:
        record, route = state.waiting.popleft()
        slot = state.window.admit(record.offset, time_of(record))
        if slot is not None:
            kind = self._places.taken(record, route)
            work = Work(state, record, route, slot, self._generation, kind)
            task = asyncio.get_running_loop().create_task(self._deliver(work))
            self._running[task] = work
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        work = self._running.pop(task)
        self._places.left(work)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            log.error("delivery_failed", step=work.route.name, error=repr(error), **work.about())
            self._broken(error)
        self._pump()

    def _broken(self, error: Exception) -> None:
        """A message or a partition cannot go on: no commit will pass it."""
        self.unsure = f"unexpected {type(error).__name__}: {error}"

    def _decided(self, work: Work) -> None:
        """The step can take another message."""
        self._places.decided(work)
        self._pump()

    # --- one message ---

    async def _deliver(self, work: Work) -> None:
        REPLAY.set(work.record.topic in self.flow.replays)
        AT_WORK.set(work)
        try:
            broken = self._read(work)
            key = (work.record.partition, work.identity)
            # The same row twice at a time (a live one and its replay): the second waits for the first.
            while (other := self._underway.get(key)) is not None:
                await asyncio.wait([other])
            if self._known(work):
                self.counts[f"known:{work.route.name}"] += 1
                work.state.window.finish(work.slot)
                return
            done = asyncio.get_running_loop().create_future()
            self._underway[key] = done
            try:
                output = broken or await self._ask(work)
                self._decided(work)
                if output is None or self.flow.unwanted(work.record):
                    self.counts[f"unwanted:{work.route.name}"] += 1
                else:
                    await self._outbox.publish(work, output)
                work.state.window.finish(work.slot)
            finally:
                del self._underway[key]
                done.set_result(None)
        except LeaseLostError as lost:
            # Another process owns the partition now, and reads it again. Or no other one does: then only a
            # restart, which reads the tail, can tell what was written.
            if self._generation == work.generation == self._lease.generation:
                self.unsure = str(lost)

    def _read(self, work: Work) -> Reject | None:
        try:
            message = decode(work.route.reads, work.record.value)
        except UndecodableError as error:
            work.identity = bytes_identity(
                work.route.name.encode(), work.record.source, digest_of(work.record.value)
            )
            return Reject(error.reason, str(error))
        work.message = message
        work.identity = row_identity(
            work.route.name,
            message.row_id.encode(),
            created_at_header(message),
            work.route.version_of(message).encode(),
            recovered_by(work.record),
        )
        return None

    def _known(self, work: Work) -> bool:
        memory, retry_of = work.state.memory, self._outbox.retry_of(work.record)
        if not wanted_again(work.record, work.route.name):
            return True
        if retry_of is None:
            return work.identity in memory
        # It was dead-lettered before, otherwise there would be no retry; it is not published, and retried
        # once.
        return work.identity in memory.published or retry_identity(work.route.name, retry_of) in memory

    async def _ask(self, work: Work) -> Done[Any] | Reject | None:
        """Call the step until it decides, or the result is unwanted. Only failures of this message while
        others succeed count against it. An outage does not, however long it takes.
        """
        assert work.message is not None
        name = work.route.name
        attempts, pause = 0, 0.0
        while not self.flow.unwanted(work.record):
            successes = self.counts[f"done:{name}"]
            try:
                outcome = await work.route.step(work.message)
            except Exception as error:
                log.exception("step_failed", step=name)
                outcome = Retry(1.0, f"unexpected {type(error).__name__}: {error}", suspect=True)
            if not isinstance(outcome, Retry):
                return outcome
            self.counts[f"retries:{name}"] += 1
            pause = min(max(outcome.after, pause * 2, 0.2), max(self._limits.longest_pause, outcome.after))
            await self._sleep(pause * random.uniform(0.8, 1.2))
            if outcome.suspect and self.counts[f"done:{name}"] > successes:
                attempts += 1
                if attempts >= self._limits.attempts:
                    return Reject("gave-up", outcome.reason, attempts)
        return None
