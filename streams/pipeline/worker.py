"""A worker of the agents: membership in the group, rebalances, and commits around one delivery."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog

from connectors.kafka.errors import SETTING, translate
from connectors.kafka.lease import GroupLease
from connectors.kafka.producer import LeasedProducer
from streams.core.errors import (
    AccessError,
    ConfigurationError,
    LabelstreamError,
    RetryableError,
    UnavailableError,
)
from streams.core.records import Commit, Partition
from streams.delivery.delivery import Delivery
from streams.pipeline.fair_fetch import Turns
from streams.pipeline.faust_app import add_agent, make_app
from streams.ports.kafka import TopicIds

log = structlog.get_logger()

COMMIT_SECONDS = 0.5
# For partitions without progress, to whose outputs others write: the next owner reads what was written since.
IDLE_COMMIT_SECONDS = 5.0
SETTLE_SECONDS = 4.0
START_SECONDS = 2.0
TOPICS_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 2.0


class AgentsWorker:
    """One worker process: a Faust app whose agents pass their messages to one delivery.

    ``agents``: the topics of each agent.
    """

    def __init__(
        self,
        *,
        group: str,
        connection: dict[str, Any],
        data: Path,
        lease: GroupLease,
        producer: LeasedProducer,
        topic_ids: TopicIds,
        delivery: Delivery,
        agents: Mapping[str, Sequence[str]],
    ) -> None:
        self.connection = connection
        self.lease = lease
        self._producer = producer
        self._topic_ids = topic_ids
        self._topics: dict[str, UUID] = {}
        self._delivery = delivery
        self._stopping = asyncio.Event()
        self._all_committed = float("-inf")
        self._failed: asyncio.Future[None] | None = None
        self.turns: Turns[Any] = Turns(lambda tp: tp.topic in delivery.flow.replays)
        self._app = make_app(self, group, connection, data)
        for name, topics in agents.items():
            add_agent(self._app, name, topics, self._delivery.offer_all)
        self._app.on_partitions_revoked.connect(self._on_revoked)
        self._app.on_rebalance_complete.connect(self._on_assigned)

    def owed(self) -> dict[Partition, int]:
        """The next offset to read of each owned partition."""
        return self._delivery.owed()

    def crowded(self) -> set[Partition]:
        """Partitions with enough waiting messages."""
        return self._delivery.crowded()

    def to_seek(self) -> dict[Partition, int]:
        """Partitions to be read from a later offset on; each is returned once."""
        return self._delivery.moved()

    def fail(self, error: Exception) -> None:
        """Make `run` end with ``error``."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)

    async def run(self) -> None:
        """Work until cancelled, then finish and leave the group.

        Raises:
            UnavailableError: the worker lost its group or its thread and must be restarted.
            AccessError, ConfigurationError: a person must change something.
        """
        failed = self._failed = asyncio.get_running_loop().create_future()
        # If a start is cancelled half-way, Faust does not stop its threads, so the start is allowed to
        # finish.
        starting = asyncio.create_task(self._app.start())
        committing = asyncio.create_task(self._commit_for_ever())
        crashed = asyncio.create_task(self._wait_for_crash())
        try:
            ends = [committing, crashed, failed]
            await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
            if starting.done() and not starting.cancelled() and starting.exception() is None:
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            reason = next(
                filter(None, map(_ended_by, (failed, starting, committing))), self._app.crash_reason
            )
            if isinstance(reason, LabelstreamError):
                raise reason
            if reason is not None and isinstance(
                known := translate(reason), (AccessError, ConfigurationError)
            ):
                raise known from reason
            raise UnavailableError(f"the agents' consumer has stopped: {reason!r}", setting=SETTING)
        finally:
            committing.cancel()
            crashed.cancel()
            failed.cancel()
            self._stopping.set()
            await asyncio.wait([starting], timeout=START_SECONDS)
            try:
                await self._settle()
            finally:
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._app.stop(), SETTLE_SECONDS)

    async def _wait_for_crash(self) -> None:
        while not (self._app.crashed or self._app.should_stop):  # noqa: ASYNC110 - Faust has no event for it
            await asyncio.sleep(0.5)

    # --- rebalances ---

    # Faust drops exceptions of these signals in different ways, so no exception leaves them.

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        try:
            if not self._stopping.is_set():
                await self._settle()
        except Exception as error:
            self.fail(error)

    async def _on_assigned(self, *_: Any, **__: Any) -> None:
        """Called after a rebalance and before anything is fetched."""
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            generation = self._app.consumer_generation_id
            try:
                await self._take_over(generation)
                return
            except Exception as error:
                if self._app.consumer_generation_id != generation or self.lease.generation != generation:
                    return  # another rebalance has begun, and will call again
                failed = translate(error)
                if not isinstance(failed, RetryableError):
                    self.fail(failed)
                    return
                log.warning("assignment_retried", error=str(failed))
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _take_over(self, generation: int) -> None:
        thread, assignment = self._app.consumer._thread, self._app.consumer.assignment()
        await thread.renew_lease()
        committed = await thread.committed(sorted(assignment)) if assignment else {}
        anew = await self._delivery.assigned(committed, generation)
        if anew:
            # Right after this, Faust seeks to the committed offsets.
            log.warning("topic_made_anew", topics=sorted({p.topic for p in anew}))
            await thread.commit_positions(anew)
        await self._note_topics()
        log.info("partitions_assigned", count=len(assignment), generation=generation)

    async def _settle(self) -> None:
        owner = self.lease.held()
        if not owner:
            self._producer.fence()
        settled = await self._delivery.revoked(owner=owner, seconds=SETTLE_SECONDS)
        if owner:
            await self._commit()
        if not settled:
            self._producer.fence()
        self._delivery.forget()

    # --- commits ---

    async def _commit_for_ever(self) -> None:
        last: dict[Partition, Commit] = {}
        compared = time.monotonic()
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            last = await self._commit(last)
            if self._delivery.unsure:
                raise UnavailableError(self._delivery.unsure, setting=SETTING)
            if time.monotonic() - compared > TOPICS_SECONDS:
                await self._compare_topics()
                compared = time.monotonic()

    async def _note_topics(self) -> None:
        flow = self._delivery.flow
        names = sorted({*flow.inputs, *flow.outputs})
        self._topics = await self._topic_ids.topic_ids(names)

    async def _compare_topics(self) -> None:
        """If a topic is recreated while a worker runs, it begins again at offset 0, and Faust takes its
        messages for known ones. A worker that restarts reads the topic from its beginning.

        Raises:
            UnavailableError: a topic is no longer the one that this worker started with.
        """
        before = self._topics
        if not before or self._app.rebalancing:
            return
        try:
            now = await self._topic_ids.topic_ids(sorted(before))
        except LabelstreamError as error:
            log.info("topics_not_compared", error=str(error))
            return
        other = sorted(name for name, number in now.items() if before.get(name) != number)
        if other and self._topics is before:
            raise UnavailableError(f"made anew since this worker began: {', '.join(other)}")

    async def _commit(self, last: Mapping[Partition, Commit] | None = None) -> dict[Partition, Commit]:
        positions = self._delivery.commits()
        due = last is None or time.monotonic() - self._all_committed > IDLE_COMMIT_SECONDS
        changed = {
            partition: commit
            for partition, commit in positions.items()
            if last is None
            or (commit != last.get(partition) and (due or _moved(commit, last.get(partition))))
        }
        if changed and (last is None or not self._app.rebalancing):
            try:
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._app.consumer._thread.commit_positions(changed)
            except (Exception, asyncio.CancelledError) as error:
                task = asyncio.current_task()
                # The client, too, cancels its calls: when it ends for a reason that it tells elsewhere.
                if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
                    raise
                # The next owner finds the outputs in the tail; a missed commit only makes the tail longer.
                failed = translate(error)
                log.info(
                    "commit_missed",
                    error=str(failed) if isinstance(failed, LabelstreamError) else repr(error),
                )
                return dict(last or {})
            if due:
                self._all_committed = time.monotonic()
        return {p: c for p, c in {**(last or {}), **changed}.items() if p in positions}


def _ended_by(task: asyncio.Future[None]) -> BaseException | None:
    """The error that ended a task, if one did."""
    return task.exception() if task.done() and not task.cancelled() else None


def _moved(commit: Commit, last: Commit | None) -> bool:
    """Whether more has changed than how much the next owner has to read."""
    return last is None or commit.offset != last.offset
