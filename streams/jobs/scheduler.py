"""Runs the jobs that were requested through the API, in any process that has what they need.

A job is on the cursor topic: every process of the API continues unfinished jobs, also after a crash. One job
publishes at a time among all processes. Published jobs are waited for concurrently.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog

from connectors.files.retention import delete_old
from streams.core.errors import (
    ConfigurationError,
    PermanentError,
    RetryableError,
    UnavailableError,
)
from streams.core.settings import Settings
from streams.jobs.context import JobContext, count_unlabeled, note, open_context
from streams.jobs.file_source import there
from streams.jobs.job import Job, Wish
from streams.jobs.masked_source import without_plain_ids
from streams.jobs.runner import JobRun
from streams.ports.kafka import WaitsFor
from streams.privacy.door import Door

log = structlog.get_logger()

_LOOK_SECONDS = 0.5
_MEASURE_SECONDS = 2.0
_AWAY_SECONDS = 2.0
_FAILED_SECONDS = 30.0
_PACE_SECONDS = 60.0
_CLEAN_SECONDS = 3_600.0
# So long at most the first look takes, before a request is told that the jobs are not known.
_FIRST_SECONDS = 5.0


class JobRates:
    """The speed of jobs: how many rows of each were done, and when."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, deque[tuple[float, int]]] = {}

    def saw(self, job: str, done: int) -> None:
        """So many of its rows are done now."""
        now = self._clock()
        seen = self._seen.setdefault(job, deque())
        seen.append((now, done))
        while len(seen) > 2 and seen[0][0] < now - _PACE_SECONDS:
            seen.popleft()

    def forget(self, job: str) -> None:
        self._seen.pop(job, None)

    def of(self, job: str) -> float | None:
        """Recent rows a second; None if unknown."""
        seen = self._seen.get(job)
        if not seen or seen[-1][0] - seen[0][0] < 1.0:
            return None
        return max(0.0, (seen[-1][1] - seen[0][1]) / (seen[-1][0] - seen[0][0]))


class JobScheduler:
    """The jobs as this process knows them. Runs until cancelled; starts again after Kafka was down."""

    def __init__(self, settings: Callable[[], Settings], door: Door | None = None) -> None:
        """``settings``: called at each start, because the addresses of the local stack may change. ``door``
        as in `open_context`.
        """
        self._settings = settings
        self.door = door
        self._context: JobContext | None = None
        self._looked = asyncio.Event()
        self._publishing: tuple[str, asyncio.Task[None]] | None = None
        self._finishing: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, tuple[float, str]] = {}
        self._left: dict[str, int] = {}
        self._pace = JobRates()

    @property
    def context(self) -> JobContext:
        """The context for a job.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        if self._context is None:
            raise UnavailableError("the jobs are not known yet", setting="KAFKA_BOOTSTRAP_SERVERS", after=2.0)
        return self._context

    @property
    def waits(self) -> list[WaitsFor]:
        """The readers of replays that publishing waits for."""
        return self._context.headroom.waits if self._context is not None else []

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[JobScheduler]:
        """Run `run` around a block, which begins when the jobs are known, or why they are not."""
        task = asyncio.create_task(self.run())
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), _FIRST_SECONDS)
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def run(self) -> None:
        """Run until cancelled."""
        said = ""
        while True:
            try:
                async with open_context(self._settings(), self.door) as context:
                    self._context, said = context, ""
                    self._looked.set()
                    await self._keep(context)
            except (RetryableError, ConfigurationError) as error:
                if str(error) != said:
                    log.warning("waiting for what jobs need", reason=str(error))
                said = str(error)
            except Exception:  # a bug: it is logged, and the other jobs go on
                log.exception("jobs_begin_anew")
            finally:
                self._context = None
                self._looked.set()
                await self._stop()
            await asyncio.sleep(_AWAY_SECONDS)

    def shown(self, job: Job) -> dict[str, Any]:
        """A job for reports: as `Jobs.as_dict`, with its progress."""
        told = self.context.jobs.as_dict(job)
        left = 0 if job.done else self._left.get(job.id, job.published)
        past = job.settled + job.skipped + job.unreadable + job.published - left
        total = max(job.expected, job.read)
        rate = None if job.done else self._pace.of(job.id)
        remaining = 0 if job.done else max(0, total - past)
        failed = self._failed.get(job.id)
        return {
            **told,
            "rows": total,
            "labeled": job.published - left,
            "progress": 1.0 if job.done or not total else round(min(past / total, 1.0), 4),
            "rows_remaining": remaining,
            "rate": round(rate, 2) if rate is not None else None,
            "seconds_remaining": round(remaining / rate, 1) if rate else (0.0 if job.done else None),
            "problem": failed[1] if failed and not job.done else None,
        }

    async def _keep(self, context: JobContext) -> None:
        if messages := without_plain_ids(context.jobs, context.settings, context.topics):
            await note(context, *messages)
        measured = cleaned = float("-inf")
        while True:
            mine = [
                job
                for job in sorted(context.jobs.jobs.values(), key=lambda job: (job.begun_at, job.id))
                if job.kept and not job.done and context.jobs.wish(job.id) is Wish.RUN
            ]
            for job in mine:
                if job.complete and job.id not in self._finishing:
                    self._finishing[job.id] = asyncio.create_task(self._work(context, job, finish_it=True))
            self._finishing = {name: task for name, task in self._finishing.items() if not task.done()}
            if self._publishing is None or self._publishing[1].done():
                self._publishing = None
                now = time.monotonic()
                for job in mine:
                    waits = self._failed.get(job.id, (float("-inf"), ""))[0] + _FAILED_SECONDS > now
                    if (
                        not job.complete
                        and not waits
                        and (job.file is None or there(context.settings, job.file))
                    ):
                        task = asyncio.create_task(self._work(context, job, finish_it=False))
                        self._publishing = (job.id, task)
                        break
            if time.monotonic() - measured > _MEASURE_SECONDS:
                await self._measure(context)
                measured = time.monotonic()
            if time.monotonic() - cleaned > _CLEAN_SECONDS:
                unfinished = {job.file.id for job in context.jobs.jobs.values() if job.file and not job.done}
                await asyncio.to_thread(delete_old, context.settings, unfinished)
                cleaned = time.monotonic()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _work(self, context: JobContext, job: Job, *, finish_it: bool) -> None:
        try:
            run = JobRun(context, job.id, _report_nothing)
            found = await (run.finish(job) if finish_it else run.publish())
            self._failed.pop(job.id, None)
            if context.jobs.jobs[job.id].updated_at <= found.updated_at:
                context.jobs.jobs[job.id] = found  # the topic will say the same, a little later
        except RetryableError as error:
            log.warning("job_waits", job=job.id, reason=str(error))
            await asyncio.sleep(_AWAY_SECONDS)
        except (ConfigurationError, PermanentError) as error:
            log.error("job_stands", job=job.id, reason=str(error))
            self._failed[job.id] = (time.monotonic(), str(error))
        except Exception:  # a bug: it is logged, and not repeated endlessly
            log.exception("job_stands", job=job.id)
            self._failed[job.id] = (time.monotonic(), "it cannot go on; the log says more")

    async def _measure(self, context: JobContext) -> None:
        """Count the rows that the workers have not processed, for each job that is not done."""
        for job in list(context.jobs.jobs.values()):
            if job.done or not job.published:
                self._left.pop(job.id, None)
                self._pace.forget(job.id)
                continue
            ends = job.replay_ends if job.complete else job.replay_starts
            left = min(await count_unlabeled(context, ends), job.published)
            self._left[job.id] = left
            self._pace.saw(job.id, job.settled + job.skipped + job.unreadable + job.published - left)

    async def _stop(self) -> None:
        tasks = [*self._finishing.values(), *([self._publishing[1]] if self._publishing else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks)
        self._finishing, self._publishing = {}, None


def _report_nothing(job: Job, left: int) -> None:
    return
