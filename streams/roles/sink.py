"""The sink's role: stores the messages of the topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.schema.migrations import pending
from connectors.clickhouse.sink.latency import StoringTime
from connectors.clickhouse.sink.sink import Sink, writer_for
from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.backlog import BacklogReader
from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.follow import Follower
from connectors.kafka.group_view import GroupView
from connectors.kafka.tail import TailReader
from streams.core.availability import until_available
from streams.core.records import partitions_of
from streams.core.settings import Settings
from streams.observability.collectors import (
    lost_metrics,
    member_metrics,
    outage_metric,
    outages_of,
    sink_metrics,
    span_metrics,
)
from streams.observability.health import Health
from streams.observability.losses import LossReporter
from streams.observability.metrics import STAGE_LATENCY, Histogram
from streams.observability.store_spans import StoreSpans
from streams.observability.tracer import Tracer
from streams.observability.watchdog import Watchdog
from streams.runtime.lag_metrics import Lags
from streams.runtime.lifecycle import lag_owed, membership_owed, watched
from streams.runtime.readiness import clickhouse_ready, kafka_ready
from streams.runtime.tracing import traced
from streams.versions.topic import KnownVersions

log = structlog.get_logger()


async def sink(settings: Settings, health: Health) -> None:
    """Store until cancelled."""
    async with traced(settings, "sink") as tracer:
        await _sink(settings, health, tracer)


async def _sink(settings: Settings, health: Health, tracer: Tracer | None) -> None:
    settings, topics = await kafka_ready(settings, health)
    client = await clickhouse_ready(settings, health)
    await _warn_of_older_tables(client, settings)
    writer = writer_for(settings, client)
    arguments = connection(settings)
    brokers = AdminClient(arguments, kept=True)
    group_name = topics.groups.sink.name
    group = GroupConsumer(arguments, topics.groups.sink)
    view = GroupView(arguments, topics.groups.sink.name, brokers)
    tail = TailReader(arguments, brokers)
    latency = Histogram(STAGE_LATENCY)
    versions = KnownVersions()
    follower = Follower(arguments, topics.versions, versions.learn)
    await until_available("the label versions", follower.start)
    losses = LossReporter(topics.groups.sink.name, topics.cursor, group.producer, group.lease)
    storing = Sink(
        client,
        settings.result_database,
        topics,
        sender=group.producer,
        tail=tail,
        topic_ids=Admin(arguments, brokers),
        lease=group.lease,
        writer=writer,
        report=losses.report,
        unwanted=versions.unwanted,
        erased=ErasedRows(client, settings).now,
        observe=StoringTime(latency).observe,
        spans=None if tracer is None else StoreSpans(tracer, group_name, settings.result_database),
    )
    lags = Lags(BacklogReader(arguments), topics.groups.sink.step_of, group.done)

    async def store(session: Session) -> None:
        await storing.run(session, session.committed, session.generation)

    def measure() -> Iterable[Metric]:
        yield from sink_metrics(storing.counts)
        yield latency.collect()
        yield from lags.measure()
        yield from lost_metrics(losses)
        yield outage_metric(group.producer.outages)
        yield from member_metrics(group.lease)
        yield from span_metrics(tracer)

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        if group.producer.outages:
            return ""  # its dead letters wait for a partition; the log says so
        if owed := await lag_owed(view, group.lease):
            await client.command("SELECT 1")  # if it does not answer, nothing is owed
            # One that takes over waits for the dead letters that it must read first.
            await tail.bounds_many(partitions_of(topics.dead_letter, settings.topic_partitions))
        return owed

    def state() -> dict[str, Any]:
        outages = outages_of(group.producer.outages)
        return {"counts": dict(storing.counts), "lost": dict(losses.counts), "outages": outages}

    health.measure, health.state = measure, state
    health.working()
    try:
        await watched(
            group.run(store),
            Watchdog(lambda: storing.counts.total(), owes),
            follower.run(),
            lags.run(),
        )
    finally:
        log.info("sink_ends", **storing.counts)
        await brokers.close()
        await storing.close()
        await client.close()
        await writer.close()


async def _warn_of_older_tables(client: ClickHouseClient, settings: Settings) -> None:
    left = await until_available("ClickHouse", lambda: pending(client, settings.result_database))
    if left:
        log.warning(
            "tables_of_an_older_release",
            reason="a corrected label can be lost until they are migrated",
            migrations=[one.name for one in left],
            fix="labelstream init",
        )
