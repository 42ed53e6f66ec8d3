"""Drops a replay: its messages are no longer processed, and its rows are removed from the tables for good."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from connectors.clickhouse.queries.label_versions import TRIAL, list_versions, retire_version
from connectors.clickhouse.queries.labelled_rows import StoredPlaces, count_of, drop_rows
from connectors.clickhouse.sink.stored_offsets import OffsetSet
from streams.core.codec import LABEL_VERSION, REPLAY_JOB
from streams.core.errors import ConfigurationError, RefusedError
from streams.core.records import partitions_of
from streams.jobs.context import (
    JobContext,
    count_unaugmented,
    count_unlabeled,
    count_unstored,
    note,
    read_ends,
)
from streams.jobs.job import Job, Wish, wish_message
from streams.jobs.leader_election import Leadership, ReplayPublisher
from streams.versions.topic import dropped_message

_LOOK_SECONDS = 0.5
_ALONE_LOOKS = 30


async def drop(context: JobContext, job: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Drop ``job``; returns its id, version and the number of ``rows`` that were removed. May be called
    again.

    Workers and sink skip messages of a dropped job, also those that they read again later. So when the
    running ones have finished what they had in progress, the rows can be removed from the tables, and do not
    come back.

    Raises:
        ConfigurationError: no such job, or a backfill, whose rows are ordinary live rows.
        UnavailableError, AccessError: call again.
    """
    found = context.jobs.named(job)
    if found.version is None:
        raise ConfigurationError(
            "a backfill cannot be dropped", fix="cancel it: its rows are live rows as any"
        )
    version = found.version
    await note(
        context, wish_message(context.topics, job, Wish.DROP), dropped_message(context.topics, job, version)
    )
    context.jobs.wishes[job] = Wish.DROP

    say("waiting for whoever publishes it")
    groups = context.topics.groups
    publishers = groups.canary if found.source == "live" else groups.replay
    await ReplayPublisher(context, _do_nothing, publishers).run()
    ends = {where.partition: end for where, end in (await read_ends(context, context.topics.replay)).items()}
    say("waiting for the workers to pass it")
    await _wait_until_passed(context, groups.agents.name, lambda: count_unlabeled(context, ends))
    outputs = (
        (context.topics.shadow,)
        if found.to == "shadow"
        else (context.topics.labeled, context.topics.augmented)
    )
    if found.to == "labeled":
        labels = await read_ends(context, context.topics.labeled)
        await _wait_until_passed(context, groups.agents.name, lambda: count_unaugmented(context, labels))
    stored = await read_ends(context, *outputs)
    say("waiting for the sink to pass it")
    await _wait_until_passed(context, groups.sink.name, lambda: count_unstored(context, stored))
    say("taking its rows out of the tables")
    rows = await drop_rows(context.client, context.settings, version, await _places(context, found, outputs))
    if not await count_of(context.client, context.settings, version):
        with contextlib.suppress(RefusedError):  # it never was in the table
            await retire_version(context.client, context.settings, version)
    return {"job": job, "version": version, "rows": rows, "state": "dropped"}


async def _do_nothing(_: Leadership) -> None:
    """The caller only needs to know that nobody else publishes."""


async def _wait_until_passed(context: JobContext, group: str, left: Callable[[], Awaitable[int]]) -> None:
    """Wait until nothing is left, or no member is running: members that start later read the drop first.

    A group counts as without members only after some time, because it has none during a rebalance either.
    """
    alone = 0
    while await left() > 0 and alone < _ALONE_LOOKS:
        alone = 0 if (await context.lags.members([group]))[group] else alone + 1
        await asyncio.sleep(_LOOK_SECONDS)


async def _places(context: JobContext, job: Job, outputs: tuple[str, ...]) -> list[StoredPlaces] | None:
    """The positions in Kafka of the rows of ``job``; None if all rows of its version are its own.

    A range may include rows of other versions, because the version is compared too. Only other rows of the
    same version end a range.
    """
    name, version = job.id.encode(), (job.version or "").encode()
    known = {one.version: one for one in await list_versions(context.client, context.settings)}
    state = known.get(job.version or "")
    siblings = [one for one in context.jobs.jobs.values() if one.version == job.version and one.id != job.id]
    sole = not siblings and (state is None or (state.status == TRIAL and not state.live))
    places = []
    for topic in outputs:
        runs: dict[int, list[tuple[int, int]]] = {}
        last_other: dict[int, int] = {}
        starts = dict.fromkeys(partitions_of(topic, context.settings.topic_partitions), 0)
        async for records in context.tail.read_many(starts):
            for record in records:
                if record.header(LABEL_VERSION) != version:
                    continue
                mine = runs.setdefault(record.partition, [])
                if record.header(REPLAY_JOB) != name:
                    last_other[record.partition] = record.offset
                    sole = False
                elif mine and last_other.get(record.partition, -1) < mine[-1][0]:
                    mine[-1] = (mine[-1][0], record.offset + 1)
                else:
                    mine.append((record.offset, record.offset + 1))
        topic_id = await context.admin.topic_id(topic)
        places.append(
            StoredPlaces(topic_id, {number: OffsetSet(found) for number, found in runs.items() if found})
        )
    return None if sole else places
