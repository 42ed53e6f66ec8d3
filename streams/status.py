"""`labelstream status`: topics, lag, members, and what the roles of this machine say of themselves."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader
from connectors.kafka.tail import TailReader
from streams.jobs import UNFINISHED, Jobs, read_jobs
from streams.settings import Settings
from streams.topics import Topics, groups

_SECONDS = 2.0


async def status(settings: Settings) -> dict[str, Any]:
    """``topics``: messages, kept and lag of each; ``groups``: members at work; ``roles``: health and state of
    those whose notes are below LABELSTREAM_DATA; ``replays``: those that are not finished.

    Raises:
        UnavailableError, AccessError: Kafka.
    """
    topics, names = Topics(settings.topic_prefix), groups(settings.topic_prefix)
    read_by = [
        (topics.rows, names["agents"]),
        (topics.replay, names["agents"]),
        (topics.labeled, names["agents"]),
        (topics.labeled, names["sink"]),
        (topics.shadow, names["sink"]),
        (topics.augmented, names["sink"]),
        (topics.dead_letter, names["sink"]),
    ]
    found: dict[str, Any] = {}
    async with LagReader(connection(settings)) as lags:
        for topic, group in read_by:
            for name, lag in (await lags.read([(topic, group)])).items():
                entry = found.setdefault(name, {"messages": lag.messages, "kept": lag.kept, "lag": {}})
                entry["lag"][group] = lag.lag
        members = await lags.members(list(names.values()))
    # Before `init` there is nothing to read.
    jobs = await read_jobs(settings, TailReader(connection(settings))) if found else Jobs()
    return {
        "topics": found,
        "groups": members,
        "roles": await local_roles(settings.labelstream_data),
        "replays": [jobs.as_dict(job) for job in jobs.newest_first() if jobs.state(job) in UNFINISHED],
    }


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
        return {"role": note.stem.rpartition("-")[0], "health": f"does not answer: {error}", "ready": "no"}
    return told


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:
            return str(answer.read().decode().strip())
    except urllib.error.HTTPError as error:
        with error:
            return error.read().decode().strip()
