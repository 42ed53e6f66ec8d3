"""Runs one canary: publishes its rows, and watches it beside that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from connectors.clickhouse.erasure.erased_list import ErasedRows
from streams.canary.source import LiveFeed
from streams.canary.watch import CanaryWatch
from streams.core.background import in_background
from streams.core.errors import optional_packages
from streams.jobs.context import JobContext
from streams.jobs.job import Job
from streams.jobs.leader_election import Leadership, ReplayPublisher
from streams.jobs.publishing import Publishing
from streams.jobs.runner import mask_of, spans_of
from streams.jobs.sources import RowSource
from streams.observability.tracer import Tracer


async def run_canary(context: JobContext, job: Job, tracer: Tracer | None) -> None:
    """Publish the rows of ``job``, and watch it, until somebody wishes it to stop, or it stops by itself.

    Raises:
        ConfigurationError, AccessError: a person must change something; a package is not installed.
    """
    with optional_packages("judging a canary"):  # else it would run, and nothing would stop it
        import scipy  # noqa: F401

    async def work(owner: Leadership) -> None:
        watch = CanaryWatch(context, job)

        async def open_source(job: Job, sent: Sequence[str]) -> RowSource:
            topic = context.topics.labeled
            topic_id = str(await context.admin.topic_id(topic))
            return LiveFeed(context.tail, topic, topic_id, context.settings, job, watch.wanted)

        publishing = Publishing(
            context,
            job.id,
            open_source,
            owner,
            lambda job, left: None,
            ErasedRows(context.client, context.settings).now,
            mask_of(context, job),
            spans_of(context, job, tracer),
        )
        watching = in_background(watch.run(), "watch the canary")
        try:
            await publishing.run()
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    await ReplayPublisher(context, work, context.topics.groups.canary).run()
