"""Masks the rows of a job that were not masked on their way in: those of uploaded files, and those that were
published or stored before masking was switched on. And the conditions of jobs of before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from connectors.clickhouse.queries.relabel_rows import Condition
from streams.core.codec import (
    CREATED_AT,
    LABEL_VERSION,
    REPLAY_JOB,
    TO,
    Headers,
    decode,
    encode,
    encode_dead_letter,
)
from streams.core.context import TRACEPARENT, traceparent_of
from streams.core.errors import ConfigurationError
from streams.core.messages import DeadLetter, Row
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.topics import Topics, partition_of
from streams.jobs.job import UNFINISHED, Job, Jobs
from streams.jobs.sources import Item
from streams.privacy.door import REASON, STEP, Door
from streams.privacy.pseudonyms import Pseudonyms, pseudonyms_of


class MaskedRows:
    """Masks chosen rows of ``job``. ``where`` they are, for the dead letters of those that cannot be."""

    def __init__(self, door: Door, job: Job, topics: Topics, partitions: int, *, where: str) -> None:
        self._door = door
        self._job = job
        self._topics = topics
        self._partitions = partitions
        self._where = where

    async def __call__(self, items: Sequence[Item]) -> tuple[list[Item], list[Outgoing]]:
        """``items`` masked, and dead letters of those that cannot be."""
        rows = [decode(Row, item.value) for item in items]
        masked: list[Item] = []
        letters: list[Outgoing] = []
        # A file may be an export, whose ids are pseudonyms: they stay, so that an erasure finds the rows.
        found = await self._door.rows(rows, from_source=False)
        for item, plain, row in zip(items, rows, found, strict=True):
            if row is None:
                letters.append(self._letter(item))
            elif row == plain:
                masked.append(item)
            else:
                partition = partition_of(row.text, self._partitions)
                masked.append(replace(item, text=row.text, partition=partition, value=encode(row)))
        return masked, letters

    def _letter(self, item: Item) -> Outgoing:
        letter = DeadLetter(
            row_id=item.row_id,
            step=STEP,
            reason=REASON,
            error=f"the row cannot be masked, so it is not published; it is in {self._where}, id "
            f"{item.row_id}, {item.created_at.decode()}",
            failed_at=datetime.now(UTC),
        )
        value, headers = encode_dead_letter(letter)
        headers += [
            (CREATED_AT, item.created_at),
            (TRACEPARENT, traceparent_of(item.row_id, item.created_at)),
            *way_of(self._job),
        ]
        partition = partition_of(item.row_id, self._partitions)
        return Outgoing(self._topics.dead_letter, partition, item.row_id.encode(), value, headers)


def way_of(job: Job) -> Headers:
    """The headers that say for which job a row is, under which version, and where its label goes."""
    way = [(REPLAY_JOB, job.id.encode())]
    if job.version is not None:
        way += [(LABEL_VERSION, job.version.encode()), (TO, job.to.encode())]
    return way


def without_plain_ids(jobs: Jobs, settings: Settings, topics: Topics) -> list[Outgoing]:
    """Messages that take the plain users and sessions out of the conditions of jobs that are over, which were
    recorded before masking was switched on. An unfinished one needs them to find its rows.
    """
    pseudonyms = pseudonyms_of(settings)
    if pseudonyms is None or settings.privacy == "off":
        return []
    messages: list[Outgoing] = []
    for job in jobs.jobs.values():
        if not job.where or jobs.state(job) in UNFINISHED:
            continue
        where = [_without_ids(text, pseudonyms) for text in job.where]
        if where != job.where:
            messages.append(job.model_copy(update={"where": where}).message(topics))
            messages.append(job.asked_message(topics)._replace(value=None))
    return messages


def _without_ids(text: str, pseudonyms: Pseudonyms) -> str:
    try:
        return Condition.without_ids(text, pseudonyms)
    except ConfigurationError:  # of another release
        return text
