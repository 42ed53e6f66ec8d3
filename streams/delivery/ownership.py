"""The input partitions that a worker owns, from their assignment to their revocation."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Set
from functools import partial

import structlog

from streams.core.background import in_background
from streams.core.errors import UnavailableError
from streams.core.losses import reached_in
from streams.core.records import Commit, Partition, Record
from streams.delivery.commit_window import CommitWindow, anew_commit, topics_made_anew
from streams.delivery.history import History
from streams.delivery.in_flight import Input
from streams.delivery.lost_commits import Finished
from streams.delivery.ordered_input import OrderedInput
from streams.delivery.recovery import Recall, Share, Takeover
from streams.delivery.routes import Flow, Limits
from streams.ports.kafka import Tail, TopicIds

log = structlog.get_logger()

Report = Callable[[Partition, str, int, int, int | None, int], Awaitable[None]]


class Ownership:
    """The inputs of one worker, and what is known of their former owners. ``generation``: the group's; -1 for
    none.
    """

    def __init__(
        self,
        flow: Flow,
        tail: Tail,
        topic_ids: TopicIds,
        limits: Limits,
        *,
        sleep: Callable[[float], Awaitable[None]],
        report: Report,
        resume: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """``report``: called for messages that retention removed unread. ``resume``: called when more
        messages may start. ``failed``: called when a partition cannot go on.
        """
        self.inputs: dict[Partition, Input] = {}
        self.turns: dict[str, deque[Partition]] = {}
        self.generation = -1
        self._flow = flow
        self._tail = tail
        self._topic_ids = topic_ids
        self._limits = limits
        self._sleep = sleep
        self._report = report
        self._moved: dict[Partition, int] = {}
        self._resume = resume
        self._failed = failed
        self._recall = Recall(flow, limits.recalled)
        self._taking_over: asyncio.Task[None] | None = None

    async def begin(self, committed: Mapping[Partition, Commit], generation: int) -> dict[Partition, Commit]:
        """See `Delivery.assigned`."""
        self.stop()
        names = sorted({*self._flow.inputs, *self._flow.outputs, self._flow.dead_letter})
        ids = {name: str(found) for name, found in (await self._topic_ids.topic_ids(names)).items()}
        anew = topics_made_anew(committed, ids)
        self.inputs = {
            partition: self._input(partition, commit, partition in anew, ids[partition.topic], generation)
            for partition, commit in committed.items()
        }
        self.turns = {
            topic: deque(sorted(one for one in self.inputs if one.topic == topic))
            for topic in self._flow.inputs
        }
        self.generation = generation
        self._moved = {}
        uncommitted = {one for one, commit in committed.items() if commit.offset < 0} - anew
        takeover = Takeover(
            self._flow,
            self._tail,
            self._recall,
            committed,
            ids=ids,
            anew=anew,
            span=self._limits.span,
            sleep=self._sleep,
            ready=partial(self._ready, ids, uncommitted),
        )
        self._taking_over = in_background(takeover.run(), "take partitions over", self._failed)
        return {partition: anew_commit(ids) for partition in anew}

    def stop(self) -> None:
        """End taking over, and accept no more messages."""
        if self._taking_over is not None:
            self._taking_over.cancel()
            self._taking_over = None
        for state in self.inputs.values():
            state.intake.close()
            state.waiting.clear()

    def forget(self) -> None:
        """No partition is owned any more."""
        self.inputs = {}
        self.turns = {}
        self.generation = -1

    def moved(self) -> dict[Partition, int]:
        """See `Delivery.moved`."""
        moved, self._moved = self._moved, {}
        return moved

    async def look(self) -> None:
        """See `Delivery.look`."""
        owned = {partition: state.intake for partition, state in self.inputs.items() if state.ready}
        expected = {partition: intake.next for partition, intake in owned.items()}
        for partition, (first, end) in (await self._tail.bounds_many(list(owned))).items():
            if end < expected[partition] and not owned[partition].closed:
                # Taking the partition over again finds out what is lost.
                self._failed(UnavailableError(f"{partition} ends at {end}, before {expected[partition]}"))
                return
            owned[partition].look(first)

    def _input(
        self, partition: Partition, commit: Commit, anew: bool, topic_id: str, generation: int
    ) -> Input:
        state, position = Input(), 0
        if not anew:
            position, state.reached_before = max(commit.offset, 0), reached_in(commit.metadata)

        def take(record: Record) -> None:
            state.waiting.append((record, self._flow.route(record)))

        async def lost(start: int, end: int) -> None:
            await self._report(partition, topic_id, start, end, state.reached, generation)
            if state.ready and not state.waiting:
                state.window.pass_over(end)

        state.lost = lost
        state.intake = OrderedInput(
            partition, position, self._tail, take, self._sleep, self._resume, self._failed, lost
        )
        return state

    async def _ready(
        self,
        ids: Mapping[str, str],
        uncommitted: Set[Partition],
        partition: Partition,
        finished: Finished,
        share: Share,
        bounds: tuple[int, int],
    ) -> None:
        """Everything is known of ``partition``. ``bounds``: its first offset, and the one after the last."""
        state, (first, end) = self.inputs[partition], bounds
        if cut := finished.position > end:
            # A leader without the last messages was elected, or the topic was restored from a copy.
            log.error("commit_beyond_end", partition=partition, committed=finished.position, end=end)
            await state.lost(end, finished.position)
            state.intake.cut(end)
        finished.cut(end)
        # Without a commit, outputs show that the partition was read: the group was idle for so long that
        # Kafka deleted its commits.
        forgotten = partition in uncommitted and any(share.ends.current.values())
        if finished.position < first and not forgotten:
            await state.lost(finished.position, first)
        window = CommitWindow(
            max(finished.position, first),
            share.ends,
            ids,
            done=finished.done,
            anew=finished.anew,
            reached=state.reached_before,
        )
        before = state.intake.next
        state.begin(window, share, History(share, self._tail) if finished.anew else None)
        if cut or state.intake.next > before:
            self._moved[partition] = state.intake.next
        self._resume()
