"""What `labelstream replay`, `backfill` and `versions` ask for: begin, foresee, steer and drop jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.tail import TailReader
from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec
from streams.core.settings import Settings
from streams.jobs.context import JobContext, note, tools_for
from streams.jobs.drop import drop
from streams.jobs.estimate import estimate
from streams.jobs.job import Job, Wish, read_jobs, wish_message
from streams.jobs.runner import feed_of
from streams.versions.registry import register


async def begin(tools: JobContext, job: Job, spec: LabelSpec | None) -> Job:
    """Write the job down, its version first; from now on it can be resumed by its id.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    job.expected = int(await (await feed_of(tools, job)).count() * (job.sample or 1))
    job.expected = min(job.expected, job.limit) if job.limit is not None else job.expected
    if spec is not None:
        await note(tools, spec.message(tools.topics))
        await register(tools.client, tools.settings, spec, live=False)
    await note(tools, job.message(tools.topics))
    return job


async def begun(
    settings: Settings,
    make: Callable[[JobContext], Awaitable[tuple[Job, LabelSpec | None]]],
    *,
    dry_run: bool,
) -> dict[str, Any]:
    """Begin the job that ``make`` describes; with ``dry_run`` what it would cost."""
    async with tools_for(settings) as tools:
        job, spec = await make(tools)
        if dry_run:
            return await estimate(tools, job, spec)
        job = await begin(tools, job, spec)
        tools.jobs.jobs[job.id] = job
        return tools.jobs.as_dict(job)


async def steered(settings: Settings, job: str, wish: Wish) -> dict[str, Any]:
    """Pause, cancel or let a job run; whoever publishes it obeys within a second or two.

    Raises:
        ConfigurationError: no such job, or it was dropped.
        UnavailableError, AccessError.
    """
    async with tools_for(settings) as tools:
        found = tools.jobs.named(job)
        if tools.jobs.wish(job) is Wish.DROP:
            raise ConfigurationError(f"replay {job} was dropped", fix="begin a new one")
        await note(tools, wish_message(tools.topics, job, wish))
        tools.jobs.wishes[job] = wish
        return tools.jobs.as_dict(found)


async def dropped(settings: Settings, job: str, say: Callable[[str], None]) -> dict[str, Any]:
    """As `streams.jobs.drop.drop`."""
    async with tools_for(settings) as tools:
        return await drop(tools, job, say)


async def jobs_known(settings: Settings) -> list[dict[str, Any]]:
    """All jobs, newest first.

    Raises:
        UnavailableError, AccessError.
    """
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    return [jobs.as_dict(job) for job in jobs.newest_first()]


async def job_shown(settings: Settings, job: str) -> dict[str, Any]:
    """One job.

    Raises:
        ConfigurationError: there is none of that id.
    """
    jobs = await read_jobs(settings, TailReader(connection(settings)))
    return jobs.as_dict(jobs.named(job))
