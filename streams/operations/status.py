"""`labelstream status`: topics, lag, members, versions, jobs, and the state of this machine's roles."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader
from connectors.kafka.tail import TailReader
from streams.core.errors import LabelstreamError, UnavailableError
from streams.core.records import Partition
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.job import UNFINISHED, read_cursor_topic
from streams.observability.health import run_notes
from streams.operations.retention import find_late_readers
from streams.privacy.door import privacy_of
from streams.versions.commands import versions_named
from streams.versions.registry import read_versions

_SECONDS = 2.0
_PART_SECONDS = 15.0
RATE_SECONDS = 60
_FUTURE = 2**62  # milliseconds; no message has that time


async def status(settings: Settings) -> dict[str, Any]:
    """The present state.

    ``parts``: for Kafka and ClickHouse an empty text, or why they did not answer; then their figures are
    empty. ``topics``: messages, kept, those of the last minute a second (`rate`), for each group lag in
    messages and in seconds. ``groups``: active members. ``versions``: promoted ones first. ``roles``: health
    and state of those whose notes are below LABELSTREAM_DATA. ``replays``: unfinished ones. ``canary``: the
    last one, or None. ``late``: readers that retention catches up with. ``lost``: what it removed unread, by
    topic and group. ``drift``: what differs from the reference, as `KnownDrift.told`; None if Kafka is away.
    ``privacy``: as `privacy_of`.
    """
    kafka: dict[str, Any] = {
        "topics": {},
        "groups": {},
        "replays": [],
        "canary": None,
        "late": [],
        "lost": [],
        "drift": None,
    }
    tables: dict[str, Any] = {"versions": []}
    kafka_away, tables_away, roles = await asyncio.gather(
        _asked("Kafka", lambda: _kafka(settings, kafka)),
        _asked("ClickHouse", lambda: _tables(settings, tables)),
        local_roles(settings.labelstream_data),
    )
    parts = {"kafka": kafka_away, "clickhouse": tables_away}
    return {"parts": parts, **kafka, **tables, "roles": roles, "privacy": privacy_of(settings)}


async def _asked(what: str, ask: Callable[[], Awaitable[None]]) -> str:
    """Why ``ask`` failed; empty if it did not."""
    try:
        async with asyncio.timeout(_PART_SECONDS):
            await ask()
    except TimeoutError:
        return f"{what} does not answer"
    except LabelstreamError as error:
        setting = getattr(error, "setting", "")
        return f"{error} ({setting})" if setting and setting not in str(error) else str(error)
    return ""


async def _tables(settings: Settings, found: dict[str, Any]) -> None:
    found["versions"] = await versions_named(settings)


async def _kafka(settings: Settings, found: dict[str, Any]) -> None:
    groups = Topics(settings.topic_prefix).groups
    told: dict[str, dict[str, Any]] = {}
    async with LagReader(connection(settings)) as lags:
        partitions: set[Partition] = set()
        for group in (groups.agents, groups.sink):
            for topic, lag in (await lags.read(group)).items():
                told.setdefault(
                    topic,
                    {
                        "messages": lag.messages,
                        "kept": lag.kept,
                        "rate": 0.0,
                        "lag": {},
                        "lag_seconds": {},
                    },
                )
                told[topic]["lag"][group.name] = lag.lag
                age = max(0.0, time.time() - lag.oldest) if lag.oldest is not None else 0.0
                told[topic]["lag_seconds"][group.name] = round(age, 1)
                partitions |= set(lag.committed)
        await _add_rates(lags, told, sorted(partitions))
        found["groups"] = await lags.members([group.name for group in groups.pipeline])
    found["topics"] = told
    if not told:
        raise UnavailableError("no topics yet; `labelstream init` makes them", setting="TOPIC_PREFIX")
    jobs, losses = await read_cursor_topic(Topics(settings.topic_prefix), TailReader(connection(settings)))
    found["lost"] = losses.by_reader()
    found["late"] = [one._asdict() for one in await find_late_readers(settings)]
    found["replays"] = [
        jobs.as_dict(job)
        for job in jobs.newest_first()
        if job.source != "live" and jobs.state(job) in UNFINISHED
    ]
    canary = jobs.last_canary()
    found["canary"] = None if canary is None else jobs.as_dict(canary)
    found["drift"] = (await read_versions(settings)).drift.told()


async def _add_rates(
    lags: LagReader, told: dict[str, dict[str, Any]], partitions: Sequence[Partition]
) -> None:
    starts = await lags.offsets_at(partitions, int((time.time() - RATE_SECONDS) * 1000))
    ends = await lags.offsets_at(partitions, _FUTURE)
    for partition, start in starts.items():
        told[partition.topic]["rate"] += (ends[partition] - start) / RATE_SECONDS
    for one in told.values():
        one["rate"] = round(one["rate"], 2)


async def local_roles(data: Path) -> list[dict[str, Any]]:
    """The state of each role with a note; a role that does not answer is marked as such."""
    notes = run_notes(data)
    return [one for one in await asyncio.gather(*(asyncio.to_thread(_ask, note) for note in notes)) if one]


def _ask(note: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(note.read_text())
        with urllib.request.urlopen(f"{told['url']}/state", timeout=_SECONDS) as answer:
            told |= json.loads(answer.read())
        told["health"] = _text(f"{told['url']}/healthz").split("\n")[0]  # the second line is the version
        told["ready"] = _text(f"{told['url']}/readyz")
    except (OSError, ValueError, KeyError) as error:
        if not note.exists():
            return None
        return {"role": note.stem.split("-")[0], "health": f"does not answer: {error}", "ready": "no"}
    return told


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode().strip()
