"""The commands of `labelstream replay` and `backfill`: request, estimate, pause, cancel and drop jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec
from streams.core.settings import Settings
from streams.jobs.context import JobContext, note, open_context
from streams.jobs.drop import drop
from streams.jobs.estimate import estimate
from streams.jobs.job import Job, Wish, read_jobs, wish_message
from streams.jobs.runner import open_row_source
from streams.versions.registry import register


async def register_job(context: JobContext, job: Job, spec: LabelSpec | None) -> Job:
    """Record the job, its version first; from now on it can be resumed by its id.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    job.expected = int(await (await open_row_source(context, job)).count() * (job.sample or 1))
    job.expected = min(job.expected, job.limit) if job.limit is not None else job.expected
    if spec is not None:
        await note(context, spec.message(context.topics))
        await register(context.client, context.settings, spec, live=False)
    await note(context, job.message(context.topics))
    return job


async def request_job(
    settings: Settings,
    make: Callable[[JobContext], Awaitable[tuple[Job, LabelSpec | None]]],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Start the job that ``make`` describes; with ``dry_run`` only estimate its cost."""
    async with open_context(settings) as context:
        job, spec = await make(context)
        if dry_run:
            return await estimate(context, job, spec)
        job = await register_job(context, job, spec)
        context.jobs.jobs[job.id] = job
        return context.jobs.as_dict(job)


async def set_wish(settings: Settings, job: str, wish: Wish) -> dict[str, Any]:
    """Pause, cancel or resume a job; its publisher follows within a second or two.

    Raises:
        ConfigurationError: no such job, it was dropped, or it is a canary and another one runs.
        UnavailableError, AccessError.
    """
    async with open_context(settings) as context:
        found = context.jobs.named(job)
        if context.jobs.wish(job) is Wish.DROP:
            raise ConfigurationError(f"replay {job} was dropped", fix="begin a new one")
        other = context.jobs.canary()
        if found.source == "live" and wish is Wish.RUN and other not in (None, found):
            raise another_canary(other)
        await note(context, wish_message(context.topics, job, wish))
        context.jobs.wishes[job] = wish
        return context.jobs.as_dict(found)


def another_canary(running: Job | None) -> ConfigurationError:
    """Why a canary cannot run: ``running`` does; None: one that is not known here."""
    name = "another version" if running is None else running.version
    return ConfigurationError(
        f"a canary of {name} runs", fix="end it first: labelstream versions canary stop"
    )


async def drop_job(settings: Settings, job: str, say: Callable[[str], None]) -> dict[str, Any]:
    """As `streams.jobs.drop.drop`."""
    async with open_context(settings) as context:
        return await drop(context, job, say)


async def list_jobs(settings: Settings) -> list[dict[str, Any]]:
    """All jobs, newest first.

    Raises:
        UnavailableError, AccessError.
    """
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    return [jobs.as_dict(job) for job in jobs.newest_first()]


async def show_job(settings: Settings, job: str) -> dict[str, Any]:
    """One job.

    Raises:
        ConfigurationError: there is none of that id.
    """
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    return jobs.as_dict(jobs.named(job))
