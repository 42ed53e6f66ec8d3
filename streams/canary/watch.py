"""Looks at a canary again and again: notes its figures, and decides whether it goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from connectors.clickhouse.queries.labelled_rows import count_of
from connectors.clickhouse.queries.watching.canary_rows import rows_at
from streams.canary.figures import CanaryFindings, find
from streams.canary.rivals import end_others
from streams.core.codec import REPLAY_JOB
from streams.core.errors import GateError, LabelstreamError
from streams.core.messages import Row
from streams.core.records import Partition
from streams.jobs.context import JobContext, count_unlabeled, note
from streams.jobs.job import Job, Stop, Wish, figures_message, wish_message
from streams.quality.evidence import LIMIT, fails_too_often
from streams.versions.commands import promote

log = structlog.get_logger()

_LOOK_SECONDS = 5.0
# At most this share of the time is spent on looking.
_BUSY = 0.1
# Who asks the gate after each answer gets many chances. So it is asked when there are so many times the rows
# of the last time, and when nobody has answered for a while.
_GROWTH = 1.1
_QUIET_SECONDS = 60.0
# Without any progress for so long, while so many live rows were labelled.
_STILL_SECONDS, _STILL_LIVE = 300.0, 100


class GateTurns:
    """When the gate is asked about a promotion."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked = 0
        self._seen = 0
        self._since = clock()

    def now(self, rows: int) -> bool:
        """Whether to ask, with so many compared rows."""
        if rows != self._seen:
            self._seen, self._since = rows, self._clock()
        quiet = self._clock() - self._since >= _QUIET_SECONDS
        if not rows or rows == self._asked or (rows < _GROWTH * self._asked and not quiet):
            return False
        self._asked = rows
        return True


class Standstill:
    """Whether a canary makes no progress though live rows do: its model may be gone, or answer with errors
    that make no dead letters, and its rows would wait for ever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._done: object = None
        self._since = clock()
        self._live = 0

    def saw(self, done: object, live: int, *, waits: bool) -> bool:
        """``done``: what changes with each row of it that the workers finish. ``live``: how many live labels
        were read. ``waits``: whether rows of it wait.
        """
        if done != self._done or not waits:
            self._done, self._since, self._live = done, self._clock(), live
            return False
        return self._clock() - self._since >= _STILL_SECONDS and live - self._live >= _STILL_LIVE


class CanaryWatch:
    """Watches one canary during one ownership."""

    def __init__(
        self,
        context: JobContext,
        job: Job,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._job = job
        self._pause = pause
        self._letters_at = dict(job.letters)
        self._failed = 0
        self._turns = GateTurns(clock)
        self._lacked = 0
        self._still = Standstill(clock)
        self._noted: dict[str, Any] = {}
        self._wanted: Sequence[Row] = ()

    async def wanted(self) -> Sequence[Row]:
        """JudgedPairs rows that the gate will ask for, and that have no label of the version."""
        found, self._wanted = self._wanted, ()
        return found

    async def run(self) -> None:
        """Look until the canary is stopped."""
        while True:
            began = time.monotonic()
            try:
                stop = await self.look()
            except LabelstreamError as error:
                log.warning("canary_not_looked_at", version=self._job.version, reason=str(error))
            except Exception:  # a bug: the canary must not go on unwatched
                log.exception("canary_not_looked_at", version=self._job.version)
            else:
                if stop is not None:
                    await self._stop(stop)
                    return
            await self._pause(max(_LOOK_SECONDS, (time.monotonic() - began) / _BUSY))

    async def look(self) -> Stop | None:
        """Note the present figures; returns why the canary is to stop, if it is.

        Raises:
            LabelstreamError: of Kafka or ClickHouse.
        """
        context, job, version = self._context, self._job, str(self._job.version)
        job = context.jobs.jobs.get(job.id, job)
        await end_others(context, context.jobs)
        await self._count_failures()
        left = await count_unlabeled(context, job.replay_starts)
        stored = max(0, await count_of(context.client, context.settings, version) - job.labels_before)
        # The sink may be behind; and the lag is also of other jobs' rows.
        answered = max(stored, job.published - left - self._failed, 0)
        # Other judged rows may have labels of the version too: then all of them count by their own chance.
        share = None if job.promote or job.labels_before else job.share
        found = await find(context.client, context.settings, version, share=share)
        figures = {
            "beside": found.beside,
            "published": job.published,
            "pairs": stored,
            "failed": self._failed,
            **found.agreement,
            "judged": found.judged.as_dict() if found.judged is not None else None,
            "gate": found.passage.as_dict() if found.passage is not None else None,
        }
        if figures != self._noted:
            told = {"at": datetime.now(UTC).isoformat(timespec="seconds"), **figures}
            await note(context, figures_message(context.topics, job.id, told))
            self._noted = figures
        if found.taken:
            return Stop(why="live", text=f"{version} is the version of live rows now")
        if fails_too_often(self._failed, answered):
            return Stop(
                why="failures",
                text=f"{self._failed} of {self._failed + answered} rows got no label of {version}",
            )
        waits = job.published > stored + self._failed
        if self._still.saw((stored, self._failed, await self._passed()), _read(job), waits=waits):
            return Stop(
                why="failures",
                text=f"no row got a label of {version} for {_STILL_SECONDS / 60:.0f} minutes, though live "
                f"rows did; `labelstream replay drop {job.id}` takes back those that wait",
            )
        if found.judged is not None and found.judged.evidence >= LIMIT:
            return Stop(why="loss", text=_loss(version, found))
        if job.promote:
            if found.lacking and found.passage is not None and found.passage.current is not None:
                self._wanted = await rows_at(
                    context.client, context.settings, found.passage.current, found.lacking
                )
            return await self._promoted(version, found)
        return None

    async def _promoted(self, version: str, found: CanaryFindings) -> Stop | None:
        passage = found.passage
        # Without judged rows the gate lets everything pass, which proves nothing.
        if passage is None or passage.verdict is None:
            return None
        # To ask while the judged rows are being labelled would use up a turn.
        labelling, self._lacked = len(found.lacking) < self._lacked, len(found.lacking)
        if labelling and found.lacking:
            return None
        if not self._turns.now(passage.verdict.rows):
            return None
        if not passage.passes:
            return None
        try:
            told = await promote(self._context.settings, version)
        except GateError:
            return None  # somebody has answered in between
        return Stop(why="promoted", text=str(told["verdict"]["text"]))

    async def _passed(self) -> int:
        """How far the workers have read the replay topic."""
        topics = self._context.topics
        found = await self._context.lags.positions(topics.groups.agents.name, [topics.replay])
        return sum(max(commit.offset, 0) for commit in found.values())

    async def _count_failures(self) -> None:
        topic, name = self._context.topics.dead_letter, self._job.id.encode()
        starts = {
            Partition(topic, number): self._letters_at.get(number, 0)
            for number in range(self._context.settings.topic_partitions)
        }
        async for records in self._context.tail.read_many(starts):
            for record in records:
                self._letters_at[record.partition] = record.offset + 1
                self._failed += record.header(REPLAY_JOB) == name

    async def _stop(self, stop: Stop) -> None:
        context, job = self._context, self._job
        log.warning("canary_stopped", version=job.version, why=stop.why, text=stop.text)
        while True:
            try:
                await note(context, wish_message(context.topics, job.id, Wish.CANCEL, stop))
            except LabelstreamError as error:
                log.warning("canary_not_stopped", version=job.version, reason=str(error))
                await self._pause(_LOOK_SECONDS)
            else:
                context.jobs.wishes[job.id] = Wish.CANCEL
                context.jobs.stops[job.id] = stop
                return


def _read(job: Job) -> int:
    """How many messages with live labels were read."""
    return sum(job.position["at"].values()) if job.position is not None else 0


def _loss(version: str, found: CanaryFindings) -> str:
    judged = found.judged
    assert judged is not None
    verdict = judged.verdict
    drawn = "" if judged.drawn else ", which were not drawn at random"
    return (
        f"on {verdict.rows} rows that people judged{drawn}, {version} is right for "
        f"{verdict.accuracy_candidate or 0:.3f}, {found.beside} for {verdict.accuracy_current or 0:.3f}: "
        f"{verdict.lost} rows lost, {verdict.won} won"
    )
