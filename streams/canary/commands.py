"""The commands of `labelstream versions canary`: begin, end and show one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from connectors.clickhouse.queries.label_versions import list_versions
from connectors.clickhouse.queries.labelled_rows import count_of
from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.canary.figures import live_version
from streams.canary.rivals import end_others
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.jobs.commands import another_canary
from streams.jobs.context import JobContext, note, open_context, read_ends
from streams.jobs.job import Job, Stop, Wish, read_jobs, wish_message
from streams.jobs.requests import ReplayRequest, spec_of
from streams.versions.registry import register

_PUBLISHES = ("publishing", "working", "waiting")


class CanaryRequest(NamedTuple):
    """The options of `labelstream versions canary`. ``share``: of live rows, above 0, at most 1."""

    version: str
    share: float
    promote: bool = False
    taxonomy: Path | None = None
    model: str | None = None
    prompt: Path | None = None


async def begin_canary(settings: Settings, asked: CanaryRequest) -> dict[str, Any]:
    """Begin one; a poller runs it. Returns it as `show_canary` does.

    Raises:
        ConfigurationError: one is running, the version is that of live rows, or a replay labels rows under
            it; a file is invalid.
        UnavailableError, AccessError.
    """
    if not 0.0 < asked.share <= 1.0:
        raise ConfigurationError(
            f"{asked.share:g} is no share of rows", setting="--share", fix="above 0, at most 1, such as 0.05"
        )
    spec = await spec_of(
        settings,
        ReplayRequest(
            source="topic",
            version=asked.version,
            taxonomy=asked.taxonomy,
            model=asked.model,
            prompt=asked.prompt,
        ),
    )
    async with open_context(settings) as context:
        await _refuse(context, spec.version)
        topics = context.topics
        ends = await read_ends(context, topics.labeled, topics.dead_letter)
        job = Job(
            source="live",
            version=spec.version,
            share=asked.share,
            promote=asked.promote,
            source_topic_id=str(await context.admin.topic_id(topics.labeled)),
            starts={where.partition: end for where, end in ends.items() if where.topic == topics.labeled},
            letters={
                where.partition: end for where, end in ends.items() if where.topic == topics.dead_letter
            },
            labels_before=await count_of(context.client, settings, spec.version),
        )
        await note(context, spec.message(topics))
        await register(context.client, settings, spec, live=False)
        await note(context, job.message(topics))
        return await _begun(context, job)


async def stop_canary(settings: Settings) -> dict[str, Any]:
    """End the one that runs. Its labels stay. Returns it as `show_canary` does.

    Raises:
        ConfigurationError: none runs.
        UnavailableError, AccessError.
    """
    async with open_context(settings) as context:
        job = context.jobs.canary()
        if job is None:
            raise ConfigurationError(
                "no canary runs", fix="begin one: labelstream versions canary V --share 0.05"
            )
        stop = Stop(why="asked", text="somebody stopped it")
        await note(context, wish_message(context.topics, job.id, Wish.CANCEL, stop))
        context.jobs.wishes[job.id], context.jobs.stops[job.id] = Wish.CANCEL, stop
        return context.jobs.as_dict(job)


async def show_canary(settings: Settings) -> dict[str, Any] | None:
    """The canary that runs, or the last one, as `Jobs.as_dict`; None: there was none.

    Raises:
        UnavailableError, AccessError.
    """
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    job = jobs.last_canary()
    return None if job is None else jobs.as_dict(job)


async def _begun(context: JobContext, job: Job) -> dict[str, Any]:
    """``job`` as it stands on the topic, unless another one stands before it: both may have been begun when
    neither was to be seen.
    """
    jobs = await read_jobs(context.settings, context.tail)
    first = jobs.canary()
    await end_others(context, jobs)
    if first is None or first.id != job.id:
        raise another_canary(first)
    return jobs.as_dict(jobs.jobs.get(job.id, job))


async def _refuse(context: JobContext, version: str) -> None:
    running = context.jobs.canary()
    if running is not None:
        raise another_canary(running)
    for job in context.jobs.newest_first():
        if job.version == version and job.source != "live" and context.jobs.state(job) in _PUBLISHES:
            # Neither would see which rows the other one is about to publish.
            raise ConfigurationError(
                f"replay {job.id} labels rows under {version}", fix="wait for its end, or cancel it"
            )
    known = await list_versions(context.client, context.settings)
    if live_version(known, but="") is None:
        raise ConfigurationError(
            "no label version is known yet, so there is nothing to compare with", fix="start the agents first"
        )
    if any(one.version == version and (one.current or one.live) for one in known):
        raise ConfigurationError(f"{version} labels live rows already", fix="name another version")
