"""Delivery: turns a step's outcomes into sends, dead letters, pauses and commits.

Steps return outcomes (`streams/core/outcomes.py`). Only this module, with `concurrency.py` (how many at once)
and `outbox.py` (sending), decides what happens to a message. Many messages are in flight. An output is
confirmed before its input counts as finished, and only the contiguous finished prefix is committed. Every
output needs a valid lease. What a former owner has published is skipped, because the tail of the output is
read first.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import structlog

from streams.core.context import AT_WORK, REPLAY
from streams.core.errors import LeaseLostError, RetryableError
from streams.core.losses import time_of
from streams.core.messages import Row
from streams.core.outcomes import Done, Reject
from streams.core.records import Commit, Partition, Record
from streams.delivery.asking import Asking
from streams.delivery.commit_window import FURTHEST
from streams.delivery.concurrency import Places
from streams.delivery.deduplication import retry_identity, wanted_again
from streams.delivery.in_flight import Input, Work
from streams.delivery.outbox import Outbox
from streams.delivery.ownership import Ownership, Report
from streams.delivery.routes import Flow, Limits
from streams.observability.step_spans import StepSpans
from streams.ports.kafka import Lease, Sender, Tail, TopicIds

log = structlog.get_logger()

Sleep = Callable[[float], Awaitable[None]]
Observe = Callable[[Row], None]
Full = Callable[[Partition], bool]

_FINISH_SECONDS = 2.0  # of a revocation; only after a pause is the lease older than that


async def _nobody(*_: object) -> None:
    """The default: losses are not reported."""


class Delivery:
    """Delivers for one worker. Single-threaded: everything runs in one event loop.

    ``counts``, each with the step's name after a colon: `done`, `known` (published by a former owner),
    `unwanted` (of a dropped replay, or erased), `retries`, `dead_letters`; and `dead_letters:STEP:REASON`.
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
        spans: StepSpans | None = None,
    ) -> None:
        """``observe`` is called with each live message after it is published. ``report``: called for messages
        that retention removed unread, see `LossReporter.report`. ``full``: whether an output's readers are so
        far behind that nothing should be written to it; see `resume`. ``spans``: where traces are exported.
        """
        self.flow = flow
        self.counts: Counter[str] = Counter()
        self.unsure = ""  # why only a restart can help
        self._lease = lease
        self._limits = limits
        # Answers may all arrive at once: then each step needs enough waiting messages, whatever their
        # partition.
        self._enough = max(limits.queue, *limits.in_flight.values(), 0)
        self._sleep = sleep
        self._full = full
        self._spans = spans
        self._asking = Asking(flow, limits, self.counts, sleep=sleep)
        self._outbox = Outbox(flow, sender, lease, self.counts, sleep=sleep, observe=observe)
        self._owned = Ownership(
            flow,
            tail,
            topic_ids,
            limits,
            sleep=sleep,
            report=report,
            resume=self._pump,
            failed=self._broken,
        )
        self._running: dict[asyncio.Task[None], Work] = {}
        self._pumping = False  # `_pump` is about to be called
        self._sender = sender
        self._places = Places(limits, flow.replays, sender)
        self._underway: dict[tuple[int, bytes], asyncio.Future[None]] = {}

    # --- ownership ---

    async def assigned(
        self, committed: Mapping[Partition, Commit], generation: int
    ) -> dict[Partition, Commit]:
        """Take over partitions, and begin to read what their former owners have published; see `taking_over`.

        Returns what must be committed at once: the beginning of those partitions whose topic was recreated
        since their last commit.

        Raises:
            UnavailableError: Kafka does not answer; nothing was taken over.
        """
        return await self._owned.begin(committed, generation)

    async def revoked(self, *, owner: bool, seconds: float) -> bool:
        """Wait shortly for running calls to the model, cancel the rest, and await what was passed to the
        sender.

        Returns False if something is left: then the sender must be fenced. With ``owner=False`` the group has
        already reassigned the partitions, and nothing is awaited.
        """
        self._owned.stop()
        ends = asyncio.get_running_loop().time() + seconds
        if owner:  # what they have is published; else all of it would be asked for again
            for state in self._owned.inputs.values():
                self._call_back(state, max(state.aside, default=0))
        if owner and (waits := self._settling()):
            # Their calls are running: the next owner of the partitions would have to repeat them.
            await asyncio.wait(waits, timeout=min(_FINISH_SECONDS, seconds / 2))
        for task, work in list(self._running.items()):
            if not (owner and work.handed_over):
                task.cancel()
        if waits := self._settling():
            left = ends - asyncio.get_running_loop().time()
            await asyncio.wait(waits, timeout=max(left, 0.1))
        settled = owner and not self._running
        for task in list(self._running):
            task.cancel()
        return settled

    def _settling(self) -> list[asyncio.Task[None]]:
        """What is at work, without the results that no leader takes now."""
        outages = self._sender.outages
        return [
            task for task, work in self._running.items() if not (work.handed_over and work.output in outages)
        ]

    def forget(self) -> None:
        """After the last commit: no partition is owned any more."""
        self._owned.forget()
        self.unsure = ""

    def owed(self) -> dict[Partition, int]:
        """The next offset that is expected from the consumer, for each owned partition."""
        return {partition: state.intake.next for partition, state in self._owned.inputs.items()}

    def positions(self) -> dict[Partition, int]:
        """The next offset of each owned partition that is not finished."""
        return {partition: state.position for partition, state in self._owned.inputs.items()}

    def moved(self) -> dict[Partition, int]:
        """The offsets at which to go on with partitions of which former owners have finished more than they
        committed. Each is returned once.
        """
        return self._owned.moved()

    def commits(self) -> dict[Partition, Commit]:
        """The position up to which each owned partition may be committed. Partitions in `taking_over` have
        none.
        """
        return {
            partition: state.window.commit() for partition, state in self._owned.inputs.items() if state.ready
        }

    def taking_over(self) -> set[Partition]:
        """The owned partitions whose former owners' work is not known yet. Nothing of them is started."""
        return {partition for partition, state in self._owned.inputs.items() if not state.ready}

    # --- input ---

    def offer(self, record: Record, generation: int) -> None:
        """Take a message from the consumer. Never waits; see `crowded`."""
        self.offer_all([record], generation)

    def offer_all(self, records: Sequence[Record], generation: int) -> None:
        """The same for several of one partition, in order."""
        state = self._owned.inputs.get(Partition(records[0].topic, records[0].partition)) if records else None
        if state is None or generation != self._owned.generation:
            return  # read in a former assignment; the next owner reads it again
        for record in records:
            state.intake.offer(record)
        self._pump()

    async def look(self) -> None:
        """Find expected messages that retention removed, if no message comes after them.

        Raises:
            UnavailableError, AccessError.
        """
        await self._owned.look()

    def crowded(self) -> set[Partition]:
        """The partitions that should not be fetched from now."""
        return {
            partition
            for partition, state in self._owned.inputs.items()
            if not state.ready or len(state.waiting) + state.intake.held >= self._enough
        }

    @property
    def in_flight(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Messages that were read and are not started."""
        return sum(len(state.waiting) for state in self._owned.inputs.values())

    def resume(self) -> None:
        """Start waiting messages, now that an output's readers have caught up."""
        self._pump()

    def _pump(self) -> None:
        """Start what can be started: the most urgent topic first, its partitions in turn."""
        self._pumping = False
        for topic in self.flow.inputs:
            turn, inputs = self._owned.turns.get(topic), self._owned.inputs
            if turn is None or not any(inputs[partition].waiting for partition in turn):
                continue
            idle = 0
            while idle < len(turn):
                state = inputs[turn[0]]
                if not state.ready or not state.waiting:
                    idle += 1
                elif self._places.full(*state.waiting[0]):
                    if topic not in self.flow.replays:
                        break  # all partitions of the topic use the same step
                    idle += 1
                elif self._held_back(state):
                    idle += 1
                else:
                    self._begin(state)
                    idle = 0
                turn.rotate(-1)

    def _held_back(self, state: Input) -> bool:
        record, route = state.waiting[0]
        output = Partition(route.output, record.partition)
        if state.aside and state.window.span(record.offset) >= self._limits.span // 2:
            self._call_back(state, record.offset - self._limits.span // 2)
        return (
            state.window.span(record.offset) >= min(self._limits.span, FURTHEST)
            or output in self._sender.outages
            or self._full(output)
            or self._full(Partition(self.flow.dead_letter, record.partition))
        )

    def _begin(self, state: Input) -> None:
        record, route = state.waiting.popleft()
        slot = state.window.admit(record.offset, time_of(record))
        if slot is not None and slot.done:
            self.counts[f"known:{route.name}"] += 1
        elif slot is not None:
            kind = self._places.taken(record, route)
            work = Work(state, record, route, slot, self._owned.generation, kind)
            work.on_rest = self._rests
            work.on_aside = self._aside
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
        if not self._pumping:  # one request of the producer finishes many
            self._pumping = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _broken(self, error: Exception) -> None:
        """A message or a partition cannot go on: no commit will pass it."""
        self.unsure = f"unexpected {type(error).__name__}: {error}"

    def _decided(self, work: Work, output: Done[Any] | Reject | None) -> None:
        """The step can take another message."""
        topic = work.route.output if isinstance(output, Done) else self.flow.dead_letter
        where = Partition(topic, work.record.partition) if output is not None else None
        self._places.decided(work, where)
        self._pump()

    def _rests(self, work: Work, resting: bool) -> None:
        """The step waits before it tries the message again: another one may start meanwhile."""
        self._places.rests(work, resting)
        if resting:
            self._pump()

    def _aside(self, work: Work, call_back: Callable[[], object] | None) -> None:
        """The step waits for what no other message waits for, and any number may start. Or it goes on."""
        waiting = work.state.aside
        if call_back is None:
            waiting.pop(work.slot.offset, None)
            self._places.resumed(work)
            return
        waiting[work.slot.offset] = call_back
        self._places.paused(work)
        self._pump()

    def _call_back(self, state: Input, newest: int) -> None:
        """Have messages aside up to the offset ``newest`` go on without what they wait for. Nothing is
        committed past them, and soon nothing after them could be started.
        """
        for offset in [one for one in state.aside if one <= newest]:
            state.aside.pop(offset)()

    # --- one message ---

    async def _deliver(self, work: Work) -> None:
        REPLAY.set(work.record.topic in self.flow.replays)
        AT_WORK.set(work)
        try:
            broken = work.read()
            if self._spans is not None:
                work.begin_span(self._spans)
            await self._look_back(work)
            key = (work.record.partition, work.identity)
            # The same row twice at a time (a live one and its replay): the second waits for the first.
            while (other := self._underway.get(key)) is not None:
                work.slot.handed_over(work.state.ends)
                self._places.paused(work)
                self._pump()
                await asyncio.wait([other])
                self._places.resumed(work)
            if self._known(work):
                self.counts[f"known:{work.route.name}"] += 1
                work.state.window.finish(work.slot)
                return
            done = asyncio.get_running_loop().create_future()
            self._underway[key] = done
            try:
                output = broken or await self._asking.ask(work)
                self._decided(work, output)
                if output is None or self.flow.skips(work.record, work.message):
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
            if self._owned.generation == work.generation == self._lease.generation:
                self.unsure = str(lost)

    async def _look_back(self, work: Work) -> None:
        """Read what is needed to know whether the row was published before its topic was recreated."""
        history, message = work.state.history, work.message
        while history is not None and message is not None and work.slot.offset < work.state.window.anew:
            try:
                await history.cover(message.created_at)
                return
            except RetryableError as error:
                log.warning("history_waits", step=work.route.name, error=str(error))
                await self._sleep(1.0)

    def _known(self, work: Work) -> bool:
        memory, retry_of = work.state.memory, self._outbox.retry_of(work.record)
        if not wanted_again(work.record, work.route.name):
            return True
        if retry_of is None:
            return work.identity in memory
        # It was dead-lettered before, otherwise there would be no retry; it is not published, and retried
        # once.
        return work.identity in memory.published or retry_identity(work.route.name, retry_of) in memory
