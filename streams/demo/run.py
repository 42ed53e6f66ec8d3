"""`labelstream demo`: runs the whole pipeline on this machine, and shows it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import structlog
from rich.console import Console
from rich.live import Live

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.demo_table import DemoTable
from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader, TopicLag
from connectors.llm.counts import standin_calls
from connectors.local import processes
from connectors.local.traffic import SampleQuery, bursts, queries
from streams.core.availability import until_available
from streams.core.errors import LabelstreamError, RetryableError, UnavailableError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.demo.figures import Figures
from streams.demo.screen import farewell, picture
from streams.runtime.local_stack import (
    local_stack_status,
    start_local_stack,
    stop_local_stack,
    with_local_stack,
)
from streams.runtime.provisioning import initialise
from streams.runtime.supervisor import Supervisor

log = structlog.get_logger()

ROLES = ("poller", "agents", "sink", "api")
# Batch size if a fixed number of rows is requested.
_CHUNK, _CHUNK_SECONDS = 500, 0.25
_LOOK_SECONDS = 0.5
_STALL_SECONDS = 120.0


async def play(
    settings: Settings, *, rows: int, rate: float | None, quiet: bool, stay: float = 0.0
) -> dict[str, Any]:
    """Start what is missing, insert rows, show the progress, and stop what was started. Returns the demo's
    figures.

    ``rows`` 0: until cancelled. ``rate``: new rows a second; None: 25, or as fast as possible with ``rows``.
    ``stay``: keep everything running for so many more seconds, for requests to the API.

    Raises:
        UnavailableError: a part did not come up, or there is no progress for two minutes.
    """
    console = Console(stderr=True)

    def say(line: str) -> None:
        if not quiet:
            # A closed terminal must not prevent us from stopping what was started.
            with contextlib.suppress(OSError):
                console.print(line, highlight=False)

    before = local_stack_status(settings)
    ours = [name for name in ("kafka", "clickhouse", "llm") if before[name]["state"] == "stopped"]
    try:
        await asyncio.to_thread(start_local_stack, settings, on_progress=say)
        resolved = with_local_stack(settings)
        await until_available("Kafka and ClickHouse", lambda: initialise(resolved))
        async with ClickHouseClient.from_settings(resolved) as client:
            table = DemoTable(client, resolved)
            await table.create(guest=settings.clickhouse_host is not None)
            return await _Demo(resolved, table, console, quiet).run(rows, rate, stay)
    finally:
        if ours:
            say(f"stopping {', '.join(ours)}; the data stays in {settings.labelstream_data}")
            await asyncio.to_thread(stop_local_stack, settings, ours)


class _Demo:
    def __init__(self, settings: Settings, table: DemoTable, console: Console, quiet: bool) -> None:
        self._settings = settings
        self._table = table
        self._console = console
        self._quiet = quiet
        self._topics = Topics(settings.topic_prefix)
        self._base: dict[str, int] = {}
        self._base_calls: int | None = None
        self._figures = Figures()

    async def run(self, rows: int, rate: float | None, stay: float) -> dict[str, Any]:
        port = _api_port(self._settings)
        environment = {**os.environ, "API_PORT": str(port)}
        supervisor = Supervisor(ROLES, environment, self._settings.labelstream_data / "logs")
        roles = asyncio.create_task(supervisor.run())
        try:
            async with LagReader(connection(self._settings)) as lags:
                await self._drain(lags)
                if not self._quiet:
                    self._console.print(f"the API answers at http://127.0.0.1:{port}", highlight=False)
                began = time.monotonic()
                feeding = asyncio.create_task(self._feed(rows, rate))
                try:
                    await self._watch(lags, rows, began, feeding)
                finally:
                    feeding.cancel()
                    await asyncio.wait([feeding])
                self._figures.seconds = round(time.monotonic() - began, 2)
                if stay:
                    self._console.print(
                        f"all is stored; the API at http://127.0.0.1:{port} stays for {stay:.0f} s more",
                        highlight=False,
                    )
                    await asyncio.sleep(stay)
                roles.cancel()
                await asyncio.wait([roles])
                # Once more after all roles have stopped: these are the figures that topics and tables show.
                await self._look(lags)
        finally:
            roles.cancel()
            await asyncio.wait([roles])
        if not self._quiet:
            self._console.print(farewell(self._figures, self._settings))
        return await self._result()

    async def _result(self) -> dict[str, Any]:
        topics = self._figures.topics
        return {
            "rows": self._figures.rows,
            "labeled": topics.get(self._topics.labeled, 0),
            "augmented": topics.get(self._topics.augmented, 0),
            "stored": self._figures.stored.current,
            "dead_letters": topics.get(self._topics.dead_letter, 0),
            "llm_calls": self._figures.llm_calls,
            "seconds": self._figures.seconds,
        }

    async def _drain(self, lags: LagReader) -> None:
        """Wait until the roles work, and the rest of an earlier run is done."""
        calm, last = 0, None
        deadline = time.monotonic() + _STALL_SECONDS
        while calm < 3:
            found: dict[str, TopicLag] = {}
            # A new broker has no group coordinator until a group first asks for it.
            with contextlib.suppress(RetryableError):
                found = await self._lags(lags)
                members = await lags.members([group.name for group in self._topics.groups.pipeline])
                moving = {name: (one.messages, one.lag) for name, one in found.items()}
                ready = all(members.values()) and not any(one.lag for one in found.values())
                calm = calm + 1 if ready and moving == last else 0
                last = moving
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"the roles do not come up; see the logs in {self._settings.labelstream_data / 'logs'}"
                )
            await asyncio.sleep(_LOOK_SECONDS)
        self._base = {name: one.messages for name, one in found.items()}
        self._base_calls = await self._calls()

    async def _feed(self, rows: int, rate: float | None) -> None:
        source = queries(seed=self._table.first)
        users = random.Random(self._table.first)
        if rows and rate is None:
            while self._figures.rows < rows:
                await self._insert(source, min(_CHUNK, rows - self._figures.rows), users)
                await asyncio.sleep(_CHUNK_SECONDS)
            return
        for pause, count in bursts(rate or 25.0, seed=self._table.first):
            await asyncio.sleep(pause)
            await self._insert(source, min(count, rows - self._figures.rows) if rows else count, users)
            if rows and self._figures.rows >= rows:
                return

    async def _insert(self, source: Iterator[SampleQuery], count: int, users: random.Random) -> None:
        texts = list(islice(source, count))
        await self._table.insert(texts, [f"user-{users.randint(1, 500)}" for _ in texts])
        self._figures.rows += count

    async def _watch(self, lags: LagReader, rows: int, began: float, feeding: asyncio.Task[None]) -> None:
        moved, progress = time.monotonic(), self._figures.progress
        said = began
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while not (rows and self._finished(rows)):
                if feeding.done() and feeding.exception():
                    raise feeding.exception() or AssertionError
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await self._look(lags)
                except LabelstreamError as error:
                    log.warning("demo_looks_again", error=str(error))
                self._figures.seconds = time.monotonic() - began
                if not self._quiet and self._console.is_terminal:
                    live.update(picture(self._figures, self._topics), refresh=True)
                elif not self._quiet and time.monotonic() - said > 2:
                    said = time.monotonic()
                    self._console.print(_line(self._figures, self._topics), highlight=False)
                if self._figures.progress != progress:
                    moved, progress = time.monotonic(), self._figures.progress
                if rows and time.monotonic() - moved > _STALL_SECONDS:
                    raise UnavailableError(
                        f"nothing has moved for {_STALL_SECONDS:.0f} s; the logs are in "
                        f"{self._settings.labelstream_data / 'logs'}"
                    )

    def _finished(self, rows: int) -> bool:
        figures = self._figures
        given_up = figures.topics.get(self._topics.dead_letter, 0)
        stored = min(figures.stored.labeled, figures.stored.augmented)
        return figures.rows >= rows and stored + given_up >= rows and not any(figures.lags.values())

    async def _look(self, lags: LagReader) -> None:
        found = await self._lags(lags)
        figures = self._figures
        figures.topics = {name: one.messages - self._base.get(name, 0) for name, one in found.items()}
        figures.lags = {name: one.lag for name, one in found.items()}
        figures.stored = await self._table.stored()
        figures.labels = await self._table.labels()
        figures.examples = await self._table.examples()
        calls = await self._calls()
        if calls is not None and self._base_calls is not None:
            figures.llm_calls = calls - self._base_calls

    async def _lags(self, lags: LagReader) -> dict[str, TopicLag]:
        """By topic; for the labelled one, the lag of augmenting."""
        topics = self._topics
        agents = await lags.read(topics.groups.agents, oldest=False)
        sink = await lags.read(topics.groups.sink, oldest=False)
        found = {**sink, **agents}
        watched = (topics.rows, topics.labeled, topics.augmented, topics.dead_letter)
        return {topic: found[topic] for topic in watched if topic in found}

    async def _calls(self) -> int | None:
        bases = {*self._settings.api_bases("labeler"), *self._settings.api_bases("augmenter")}
        counts = [await standin_calls(base) for base in bases]
        return None if None in counts else sum(count for count in counts if count is not None)


def _api_port(settings: Settings) -> int:
    """API_PORT, or any free one if it is taken."""
    if settings.api_port and processes.port_is_free(settings.api_port):
        return settings.api_port
    return processes.free_port()


def _line(figures: Figures, topics: Topics) -> str:
    done = figures.topics
    return (
        f"{figures.seconds:5.0f} s  rows {figures.rows}  published {done.get(topics.rows, 0)}  "
        f"labelled {done.get(topics.labeled, 0)}  augmented {done.get(topics.augmented, 0)}  "
        f"stored {figures.stored.augmented}"
    )
