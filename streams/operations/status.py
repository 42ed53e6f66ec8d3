"""`labelstream status`: topics, lag, members, versions, jobs, and what this machine's roles say."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.kafka.backlog import Backlog, BacklogReader
from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader
from connectors.kafka.tail import TailReader
from streams.core.errors import LabelstreamError, UnavailableError
from streams.core.records import Partition
from streams.core.settings import Settings
from streams.core.topics import Topics, groups
from streams.jobs.job import UNFINISHED, read_jobs
from streams.versions.commands import versions_named

_SECONDS = 2.0
_PART_SECONDS = 15.0
RATE_SECONDS = 60
_FUTURE = 2**62  # milliseconds; no message has that time


async def status(settings: Settings) -> dict[str, Any]:
    """What can be told now.

    ``parts``: for Kafka and ClickHouse an empty text, or why nothing could be asked of them; what they would
    have told is then empty. ``topics``: messages, kept, those of the last minute a second (`rate`), for each
    group lag in messages and in seconds. ``groups``: members at work. ``versions``: promoted ones first.
    ``roles``: health and state of those whose notes are below LABELSTREAM_DATA. ``replays``: unfinished ones.
    """
    kafka: dict[str, Any] = {"topics": {}, "groups": {}, "replays": []}
    tables: dict[str, Any] = {"versions": []}
    kafka_away, tables_away, roles = await asyncio.gather(
        _asked("Kafka", lambda: _kafka(settings, kafka)),
        _asked("ClickHouse", lambda: _tables(settings, tables)),
        local_roles(settings.labelstream_data),
    )
    parts = {"kafka": kafka_away, "clickhouse": tables_away}
    return {"parts": parts, **kafka, **tables, "roles": roles}


async def _asked(what: str, ask: Callable[[], Awaitable[None]]) -> str:
    """Why ``ask`` could not be answered; empty if it was."""
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
    topics, names = Topics(settings.topic_prefix), groups(settings.topic_prefix)
    read_by = {
        names["agents"]: (topics.rows, topics.replay, topics.labeled),
        names["sink"]: (topics.labeled, topics.shadow, topics.augmented, topics.dead_letter),
    }
    every = list(dict.fromkeys(topic for read in read_by.values() for topic in read))
    backlogs = BacklogReader(connection(settings))
    told: dict[str, dict[str, Any]] = {}
    async with LagReader(connection(settings)) as lags:
        for name, lag in (await lags.read([(topic, None) for topic in every])).items():
            told[name] = {
                "messages": lag.messages,
                "kept": lag.kept,
                "rate": 0.0,
                "lag": {},
                "lag_seconds": {},
            }
        partitions: set[Partition] = set()
        try:
            for group, read in read_by.items():
                positions = await lags.positions(group, [topic for topic in read if topic in told])
                partitions |= set(positions)
                seen = await backlogs.read({p: commit.offset for p, commit in positions.items()})
                _add_lag(told, group, seen)
        finally:
            await backlogs.close()
        await _add_rates(lags, told, sorted(partitions))
        found["groups"] = await lags.members(list(names.values()))
    found["topics"] = told
    if not told:
        raise UnavailableError("no topics yet; `labelstream init` makes them", setting="TOPIC_PREFIX")
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    found["replays"] = [jobs.as_dict(job) for job in jobs.newest_first() if jobs.state(job) in UNFINISHED]


async def _add_rates(
    lags: LagReader, told: dict[str, dict[str, Any]], partitions: Sequence[Partition]
) -> None:
    begun = await lags.offsets_at(partitions, int((time.time() - RATE_SECONDS) * 1000))
    ends = await lags.offsets_at(partitions, _FUTURE)
    for partition, start in begun.items():
        told[partition.topic]["rate"] += (ends[partition] - start) / RATE_SECONDS
    for one in told.values():
        one["rate"] = round(one["rate"], 2)


def _add_lag(told: dict[str, dict[str, Any]], group: str, seen: Mapping[Partition, Backlog]) -> None:
    now = time.time()
    for partition, backlog in seen.items():
        one = told[partition.topic]
        one["lag"][group] = one["lag"].get(group, 0) + backlog.messages
        age = round(max(0.0, now - backlog.oldest), 1) if backlog.oldest is not None else 0.0
        one["lag_seconds"][group] = max(one["lag_seconds"].get(group, 0.0), age)


async def local_roles(data: Path) -> list[dict[str, Any]]:
    """What each role that left a note says; a role that does not answer is listed as such."""
    notes = sorted((data / "run").glob("*.json"))
    return [one for one in await asyncio.gather(*(asyncio.to_thread(_ask, note) for note in notes)) if one]


def _ask(note: Path) -> dict[str, Any] | None:
    try:
        told: dict[str, Any] = json.loads(note.read_text())
        with urllib.request.urlopen(f"{told['url']}/state", timeout=_SECONDS) as answer:
            told |= json.loads(answer.read())
        told["health"] = _text(f"{told['url']}/healthz")
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
