"""Waits for a canary, and runs it, in whichever poller is the first to see it."""

from __future__ import annotations

import asyncio

import structlog

from streams.core.errors import LabelstreamError
from streams.core.settings import Settings
from streams.jobs.job import Jobs
from streams.observability.tracer import Tracer
from streams.privacy.door import Door

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
_AGAIN_SECONDS = 10.0


async def keep_canary(settings: Settings, jobs: Jobs, door: Door | None, tracer: Tracer | None) -> None:
    """Run each canary until it is stopped; never returns. ``jobs`` are kept up to date."""
    while True:
        job = jobs.canary()
        if job is not None:
            # What jobs need takes memory, and most pollers never run one.
            from streams.canary.run import run_canary
            from streams.jobs.context import open_context

            try:
                async with open_context(settings, door) as context:
                    await run_canary(context, job, tracer)
            except LabelstreamError as error:
                log.warning("canary_waits", version=job.version, reason=str(error))
                await asyncio.sleep(_AGAIN_SECONDS)
            except Exception:  # a bug: it must not end the poller
                log.exception("canary_waits", version=job.version)
                await asyncio.sleep(_AGAIN_SECONDS)
        await asyncio.sleep(_LOOK_SECONDS)
