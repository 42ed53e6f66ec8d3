"""What an erasure does to the topics: those with a retention time keep their messages until then, compacted
ones get a tombstone for each key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.clickhouse.erasure.person import Person
from connectors.clickhouse.queries.relabel_rows import Condition
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import send_each
from connectors.kafka.tail import TailReader
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import moment
from streams.core.topics import Topics
from streams.jobs.job import UNFINISHED, Job, Jobs
from streams.ports.lookups import Place
from streams.ports.review import UNSURE, item_key
from streams.privacy.erasure import ERASED_ID

_WEEK_MS = 7 * 86_400_000
_PROBE = b"may-be-written"


async def kept_by_topics(settings: Settings) -> list[dict[str, str | None]]:
    """For each topic (`where`) `until` which day a message that it has today can be there, null for one that
    deletes nothing; and `why`. A message is deleted with its segment, which may take others for `segment.ms`.

    Raises:
        UnavailableError, AccessError.
    """
    wanted = [topic for topic in Topics(settings.topic_prefix).all() if not topic.compacted]
    found = await Admin(connection(settings)).find([topic.name for topic in wanted])
    kept: list[dict[str, str | None]] = []
    for topic in wanted:
        if topic.name in found:
            config = found[topic.name].config
            retention, segment = int(config.get("retention.ms", -1)), int(config.get("segment.ms", _WEEK_MS))
            # Brokers look every few minutes, and the day is a whole one.
            last = datetime.now(UTC) + timedelta(milliseconds=max(retention, 0) + segment, hours=1)
            until = None if retention < 0 else last.date().isoformat()
            why = (
                "Kafka deletes no single message" if until else "retention.ms is -1: nothing is ever deleted"
            )
            kept.append({"where": topic.name, "until": until, "why": why})
    return kept


async def review_keys(
    settings: Settings, tail: TailReader, rows: Collection[tuple[str, int]], row_ids: Collection[str] = ()
) -> list[bytes]:
    """The keys of the review topic that name one of ``rows`` (id, time in microseconds since 1970), or one of
    ``row_ids`` at any time.

    Raises:
        UnavailableError, AccessError.
    """
    items = {item_key(Place(moment(micros), row_id), UNSURE) for row_id, micros in rows}
    ids = {item_key(Place(moment(0), row_id), UNSURE).partition(".")[2] for row_id in row_ids}
    found: dict[bytes, bool] = {}
    if not items and not ids:
        return []
    async for records in tail.read(Topics(settings.topic_prefix).review, 0, 0):
        for record in records:
            row = (record.key or b"").decode("utf-8", "replace").partition("/")[2].partition("/")[0]
            if record.key is not None and (row in items or row.partition(".")[2] in ids):
                found[record.key] = record.value is not None
    return sorted(key for key, there in found.items() if there)


async def refuse_unwritable(settings: Settings) -> None:
    """Try to write to the compacted topics, before anything is changed: deletes a key that nothing has.

    Raises:
        AccessError: the user of Kafka may not write to one.
        UnavailableError.
    """
    topics = Topics(settings.topic_prefix)
    probes = [Outgoing(topic, 0, _PROBE, None) for topic in (topics.review, topics.cursor)]
    await send_each(connection(settings), probes)


async def send_tombstones(settings: Settings, keys: Sequence[bytes]) -> int:
    """Delete ``keys`` from the review topic: what they had goes when it is next compacted. Returns how many.

    Raises:
        UnavailableError, AccessError.
    """
    if keys:
        topic = Topics(settings.topic_prefix).review
        await send_each(connection(settings), [Outgoing(topic, 0, key, None) for key in keys])
    return len(keys)


def jobs_naming(jobs: Jobs, person: Person, row_ids: Collection[str], files: Collection[str]) -> list[Job]:
    """The jobs that name the person: in a condition, by one of ``row_ids`` where they stopped reading, or by
    the name of one of ``files`` (ids of uploads).
    """
    ids = {*row_ids, *(person.ids if person.kind == "row" else ())}
    return [
        job
        for job in jobs.jobs.values()
        if any(_names(text, person) for text in job.where)
        or (isinstance(job.position, list) and not ids.isdisjoint(map(str, job.position)))
        or (job.file is not None and job.file.id in files and job.file.name)
    ]


async def forget_in_jobs(
    settings: Settings, jobs: Jobs, found: Sequence[Job], person: Person
) -> tuple[int, list[str]]:
    """Write ``found`` again without what names the person; returns how many, and why others are left.

    Raises:
        UnavailableError, AccessError.
    """
    topics, messages, left = Topics(settings.topic_prefix), list[Outgoing](), list[str]()
    for job in found:
        if jobs.state(job) in UNFINISHED:
            left.append(f"job {job.id} names the person, and is not finished: erase again then, or drop it")
            continue
        changed: dict[str, Any] = {
            "where": [f"user={ERASED_ID}" if _names(text, person) else text for text in job.where],
            "position": None,
        }
        if job.file is not None:
            changed["file"] = job.file.model_copy(update={"name": ""})
        messages.append(job.model_copy(update=changed).message(topics))
        messages.append(job.asked_message(topics)._replace(value=None))
    if messages:
        await send_each(connection(settings), messages)
    return len(messages) // 2, left


def _names(text: str, person: Person) -> bool:
    """Whether a job's condition names the user; a masked one by several pseudonyms, `user=p2:...|p1:...`."""
    if person.kind != "user" or Condition.parse(text).column != "user_id":
        return False
    value = text.partition("=")[2].strip()
    return not {value, *value.split("|")}.isdisjoint(person.ids)
