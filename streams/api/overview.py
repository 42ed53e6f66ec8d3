"""The overview: read once a second for all viewers, and not at all without viewers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import current_version, list_versions
from connectors.clickhouse.queries.overview import label_picture, letter_reasons, table_sizes
from streams.api.overview_probes import LabelTicker, RoleProbe, TopicProbe
from streams.core.errors import LabelstreamError
from streams.core.settings import Settings
from streams.core.text import bounded
from streams.ports.label_feed import Feed
from streams.privacy.door import privacy_of
from streams.runtime.local_stack import with_local_stack
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

_LINGER_SECONDS = 30.0  # probing goes on for so long after the last viewer has left
_LOOK_SECONDS = 10.0  # the time-out of a probe
_FAST_SECONDS, _SLOW_SECONDS = 1.0, 15.0
_TICK_SECONDS, _FIRST_SECONDS = 0.8, 5.0
_MOST_JOBS, _MOST_VERSIONS = 20, 50
_LINES = ("rows", "labeled", "augmented", "stored", "label_lag", "augment_lag", "store_lag")
MICROS = 1_000_000


class OverviewBoard:
    """Implements `streams.ports.page.Overview`."""

    def __init__(
        self,
        settings: Settings,
        tables: ResultTables,
        feed: Feed,
        jobs: Callable[[], Awaitable[list[dict[str, Any]]]],
        lost: Callable[[], list[dict[str, Any]]],
        erased: Callable[[], object],
        cascade: Callable[[str], dict[str, Any]],
    ) -> None:
        """``lost``: what retention removed unread, as `Losses.by_reader`. ``erased`` as for `LabelTicker`.
        ``cascade``: where that of a label version stands.
        """
        self._cascade = cascade
        self._settings = settings
        self._tables = tables
        self._jobs = jobs
        self._lost = lost
        self._passing = LabelTicker(feed, erased)
        self._roles = RoleProbe(settings.labelstream_data)
        self._flow: TopicProbe | None = None
        self._history = RateHistory(_LINES)
        self._picture: dict[str, Any] = {}
        self._fresh: dict[str, Any] = {}
        self._parts: dict[str, Any] = {"problems": {}}
        self._due: dict[str, float] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()
        self._number = 0
        self._watching = 0
        self._left_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    async def watch(self) -> AsyncGenerator[dict[str, Any]]:
        self._watching += 1
        try:
            self._begin()
            seen = self._number if self._picture else await self._next(self._number)
            yield self._whole()
            while not self._stopped:
                seen = await self._next(seen)
                if not self._stopped:
                    yield self._fresh
        finally:
            self._watching -= 1
            self._left_at = time.monotonic()

    async def now(self) -> dict[str, Any]:
        async with contextlib.aclosing(self.watch()) as pictures:
            return await anext(pictures)

    def stop(self) -> None:
        """Disconnect all viewers."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()

    async def close(self) -> None:
        """Stop probing and close the connections."""
        self.stop()
        if self._task is not None:
            await asyncio.wait([self._task])

    def _whole(self) -> dict[str, Any]:
        past = {"names": _LINES, "columns": self._history.columns()}
        return {**self._picture, "history": past, "feed": list(self._passing.kept)}

    def _begin(self) -> None:
        if self._task is None or self._task.done():
            self._picture = {}
            self._task = asyncio.create_task(self._run())

    async def _next(self, seen: int) -> int:
        async with self._changed:
            await self._changed.wait_for(lambda: self._number > seen or self._stopped)
            return self._number

    async def _run(self) -> None:
        passing = asyncio.create_task(self._passing.run())
        try:
            while self._watching or time.monotonic() - self._left_at < _LINGER_SECONDS:
                began = time.monotonic()
                await self._look()
                async with self._changed:
                    self._number += 1
                    self._changed.notify_all()
                await asyncio.sleep(max(0.05, 1.0 - (time.monotonic() - began)))
        except Exception:
            log.exception("overview_broke")
            raise
        finally:
            looks = [passing, *self._looking.values()]
            for task in looks:
                task.cancel()
            await asyncio.wait(looks)
            self._looking = {}
            if self._flow is not None:
                await self._flow.close()
                self._flow = None
            async with self._changed:
                self._number += 1
                self._changed.notify_all()

    async def _look(self) -> None:
        """Run every probe that is due; a part that does not answer keeps its last figures, with the
        reason.
        """
        for name, every, look in (
            ("kafka", _FAST_SECONDS, self._kafka),
            ("roles", _FAST_SECONDS, self._roles.look),
            ("clickhouse", _FAST_SECONDS, self._sizes),
            ("jobs", _FAST_SECONDS, self._listed),
            ("labels", _SLOW_SECONDS, self._labels),
        ):
            if name not in self._looking or self._looking[name].done():
                self._looking[name] = asyncio.create_task(self._part(name, every, look))
        # The figures of a slow part are shown when they arrive; the others wait for it only the first time.
        await asyncio.wait(self._looking.values(), timeout=_TICK_SECONDS if self._picture else _FIRST_SECONDS)
        now, parts = time.time(), self._parts
        stages, topics = parts.get("stages", {}), parts.get("topics", {})
        self._history.add(
            now,
            {
                **{name: topics.get(name, {}).get("rate", 0.0) for name in ("rows", "labeled", "augmented")},
                "stored": stages.get("store", {}).get("rate", 0.0),
                **{
                    f"{name}_lag": stages.get(name, {}).get("lag", 0.0)
                    for name in ("label", "augment", "store")
                },
            },
        )
        self._picture = {"at": now, **parts}
        self._fresh = {
            **self._picture,
            "point": list(self._history.points[-1]),
            "feed": self._passing.take(),
        }

    async def _part(self, name: str, every: float, look: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        now = time.monotonic()
        if now < self._due.get(name, 0.0):
            return
        problems: dict[str, str] = self._parts["problems"]
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                found = await look()
            self._parts.update(found)
            problems.pop(name, None)
            self._due[name] = now + every * 0.9
        except (LabelstreamError, TimeoutError) as error:
            self._due[name] = now + max(every, 2.0)
            # The text may name hosts, and is for operators; the page only says which part is down.
            log.debug("overview_part_away", part=name, error=str(error))
            problems[name] = type(error).__name__
        except Exception as error:
            # An error of one part does not affect the figures of the others.
            self._due[name] = now + _LOOK_SECONDS
            log.exception("overview_part_broke", part=name)
            problems[name] = type(error).__name__

    async def _kafka(self) -> dict[str, Any]:
        if self._flow is None:
            self._flow = TopicProbe(await asyncio.to_thread(with_local_stack, self._settings))
        try:
            return await self._flow.look()
        except BaseException:
            flow, self._flow = self._flow, None
            if flow is not None:
                await flow.close()
            raise

    async def _sizes(self) -> dict[str, Any]:
        async def ask(client: ClickHouseClient, settings: Settings) -> dict[str, Any]:
            sizes = await table_sizes(client, settings)
            if sizes["dead_letters"] != self._parts.get("tables", {}).get("dead_letters"):
                reasons = await letter_reasons(client, settings)
                self._parts["reasons"] = [
                    {"step": step, "reason": bounded(reason, 100), "count": count}
                    for step, reason, count in reasons
                ]
            return {"tables": sizes}

        return await self._tables.ask(ask)

    async def _labels(self) -> dict[str, Any]:
        async def ask(client: ClickHouseClient, settings: Settings) -> dict[str, Any]:
            picture = await label_picture(client, settings, int(time.time() * MICROS) + 86_400 * MICROS)
            versions = await list_versions(client, settings, counted=True)
            current = current_version(versions)
            return {
                "labels": None
                if picture is None
                else {
                    "until": picture.until / MICROS,
                    "labels": list(picture.labels),
                    "confidence": list(picture.confidence),
                    "decided": dict(picture.decided),
                },
                "cascade": None if current is None else self._cascade(current.version),
                "versions": [
                    {
                        "version": one.version,
                        "status": one.status,
                        "live": one.live,
                        "current": one.current,
                        "rows": one.rows,
                        "model": one.model,
                    }
                    for one in versions[:_MOST_VERSIONS]
                ],
            }

        return await self._tables.ask(ask)

    async def _listed(self) -> dict[str, Any]:
        return {
            "jobs": (await self._jobs())[:_MOST_JOBS],
            "lost": self._lost(),
            "privacy": privacy_of(self._settings),
        }


HISTORY_SECONDS = 300


@dataclass
class RateHistory:
    """One value a second for the charts, the newest five minutes; as lists, oldest first."""

    names: Sequence[str]
    points: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=HISTORY_SECONDS))

    def add(self, at: float, values: Mapping[str, float]) -> None:
        """Add the values of ``at`` (seconds since 1970)."""
        self.points.append((round(at, 1), *(round(values.get(name, 0.0), 2) for name in self.names)))

    def columns(self) -> list[list[float]]:
        """The times, and the values of each name."""
        empty: list[list[float]] = [[] for _ in range(len(self.names) + 1)]
        return [list(column) for column in zip(*self.points, strict=True)] or empty
