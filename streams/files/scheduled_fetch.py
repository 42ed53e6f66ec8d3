"""The fetcher's schedule: what was fetched, and when the next fetch is due."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from connectors.kafka.consumer import Session
from connectors.kafka.producer import LeasedProducer
from streams.core.availability import until_available
from streams.core.errors import RefusedError
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.core.topics import Topics
from streams.files.fetch import begin, export, fetch_job
from streams.jobs.scheduler import JobScheduler
from streams.ports.kafka import Tail
from streams.runtime.local_stack import with_local_stack

log = structlog.get_logger()


# As in the requirements' script: the first fetch takes the rows of yesterday and today.
FIRST_DAYS = 1


_SECOND = 1_000_000


class Watermark(BaseModel):
    """``until``: rows before it were fetched, microseconds since 1970. ``at``: the time of the fetch."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    until: int
    at: datetime


class Fetching:
    """Fetches during one ownership."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        tail: Tail,
        keeper: JobScheduler,
        sender: LeasedProducer,
        told: dict[str, Any],
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._tail = tail
        self._keeper = keeper
        self._sender = sender
        self._told = told

    async def run(self, session: Session) -> None:
        """Run until the group reassigns it."""
        mark = await self._learn()
        while not session.ending.is_set():
            due = mark.at + timedelta(hours=self._settings.fetch_interval_hours) if mark else None
            if due is None or datetime.now(UTC) >= due:
                mark = await until_available("what a fetch needs", lambda: self.fetch(mark))  # noqa: B023
                continue
            left = (due - datetime.now(UTC)).total_seconds()
            self._told["next"] = due.isoformat()
            try:
                await asyncio.wait_for(session.ending.wait(), min(max(left, 0.01), 60.0))
            except TimeoutError:
                continue

    async def fetch(self, mark: Watermark | None) -> Watermark:
        """One fetch: the rows of today and yesterday, and all since the last fetch, with the look-back window
        before it. Rows appear late, and labelled rows are left out.

        Raises:
            UnavailableError, ConfigurationError: nothing was recorded; repeat the fetch.
        """
        settings, context = with_local_stack(self._settings), self._keeper.context
        since, days = None, FIRST_DAYS
        if mark is not None:
            since = mark.until - int(settings.poll_lookback_seconds * _SECOND)
            # One day more than the clocks say, because the server's midnight may be another one.
            days = max(FIRST_DAYS, (datetime.now(UTC) - moment(since)).days + 1)
        began = datetime.now(UTC)
        try:
            fetched = await export(settings, days=days, limit=None, door=self._keeper.door)
        except RefusedError:
            log.info("fetched", rows=0)
            until = mark.until if mark is not None else micros_of(began - timedelta(days=FIRST_DAYS))
            return await self._note(Watermark(until=until, at=began))
        begins = fetched.since
        if since is not None and begins is not None:
            # A row of a date has the time of its day's beginning, and may come until its end.
            begins = min(since - fetched.coarse, begins)
        job = await fetch_job(context, fetched, limit=None, since=begins)
        assert job.until is not None
        await begin(context, job)
        self._told["fetches"] += 1
        self._told["rows"] += fetched.rows
        log.info("fetched", rows=fetched.rows, file=str(fetched.path), job=job.id, new=job.expected)
        return await self._note(Watermark(until=max(job.until, mark.until if mark else 0), at=began))

    async def _learn(self) -> Watermark | None:
        found: Watermark | None = None
        async for records in self._tail.read(self._topics.cursor, 0, 0):
            for record in records:
                if record.key == self._key:
                    try:
                        found = Watermark.model_validate_json(record.value or b"")
                    except ValidationError:
                        continue
        return found

    async def _note(self, mark: Watermark) -> Watermark:
        await self._sender.send(Outgoing(self._topics.cursor, 0, self._key, mark.model_dump_json().encode()))
        return mark

    @property
    def _key(self) -> bytes:
        return f"fetch/{self._settings.source_table}".encode()
