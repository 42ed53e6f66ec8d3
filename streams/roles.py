"""The roles: each takes settings, waits for what it needs, and works until cancelled.

This is where the parts are put together; what flows where is in `streams/flow.py`. The agents, which
have the most parts, are in `streams/agents_role.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.clickhouse.client import ClickHouseClient
from connectors.clickhouse.ddl import create_tables
from connectors.clickhouse.poller import Poller
from connectors.clickhouse.sink import Sink, writer_for
from connectors.clickhouse.source import SourceTable
from connectors.clickhouse.storing_time import StoringTime
from connectors.kafka.admin import Admin
from connectors.kafka.backlog import BacklogReader
from connectors.kafka.connection import connection, reach
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.follow import Follower
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.agents_role import agents
from streams.api_role import api
from streams.duty import again, lag_owed, membership_owed, on_duty, watched
from streams.fetcher_role import fetcher
from streams.health import Health
from streams.lags import Lags
from streams.local import with_local_stack
from streams.measures import member_metrics, poller_metrics, sink_metrics, supervisor_metrics
from streams.metrics import CREATED_TO_POLLED, STAGE_LATENCY, Histogram
from streams.prepare import clickhouse_ready, kafka_ready
from streams.settings import Settings
from streams.supervise import Supervisor
from streams.topics import groups
from streams.versions import KnownVersions
from streams.waiting import until_available
from streams.watchdog import Watchdog

log = structlog.get_logger()

SUPERVISED = ("poller", "agents", "sink", "api")


async def run_poller(settings: Settings) -> None:
    """Publish the source table's rows; stands by while another poller is active."""
    await on_duty(settings, "poller", _poller)


async def run_agents(settings: Settings) -> None:
    """Label and augment, as one member of the agents' group."""
    await on_duty(settings, "agents", agents)


async def run_sink(settings: Settings) -> None:
    """Store what the topics carry."""
    await on_duty(settings, "sink", _sink)


async def run_fetcher(settings: Settings) -> None:
    """Fetch by the clock; stands by while another fetcher is active."""
    await on_duty(settings, "fetcher", fetcher)


async def run_api(settings: Settings) -> None:
    """Serve the API."""
    await on_duty(settings, "api", api)


async def run_all(settings: Settings) -> None:
    """Every role as a process of its own, started again when it fails."""
    await on_duty(settings, "all", _all)


async def _all(settings: Settings, health: Health) -> None:
    async def attempt() -> None:
        await initialise(with_local_stack(settings))

    health.wait_for("Kafka and ClickHouse")
    await until_available("Kafka and ClickHouse", attempt)
    # The port is this process's; each role takes a free one.
    supervisor = Supervisor(SUPERVISED, {**os.environ, "HEALTH_PORT": "0"})
    health.state = lambda: {"pids": supervisor.pids, "restarts": dict(supervisor.restarts)}
    health.measure = lambda: supervisor_metrics(supervisor.restarts, SUPERVISED)
    health.working()
    await supervisor.run()


async def initialise(settings: Settings) -> dict[str, Any]:
    """Make the topics and the result tables that are missing.

    Raises:
        UnavailableError, ConfigurationError: what does not answer, or who may not.
    """
    await reach(settings)
    made = await Admin(connection(settings)).create_topics(settings)
    async with ClickHouseClient.from_settings(settings) as client:
        await create_tables(client, settings)
    return {"topics": made, "database": settings.result_database}


async def _poller(settings: Settings, health: Health) -> None:
    settings, topics = await kafka_ready(settings, health)
    client = await clickhouse_ready(settings, health)
    arguments = connection(settings)
    admin = Admin(arguments)
    group = GroupConsumer(arguments, groups(settings.topic_prefix)["poller"], (topics.cursor,))
    producer = LeasedProducer(arguments, group.lease)
    group.fence_with(producer.fence)
    counts: Counter[str] = Counter()
    latency = Histogram(STAGE_LATENCY)
    active: list[Poller] = []

    async def poll(session: Session) -> None:
        poller = Poller(
            SourceTable(client, settings),
            topics,
            settings,
            partitions=settings.topic_partitions,
            sender=producer,
            tail=TailReader(arguments),
            topic_ids=admin,
            lease=group.lease,
            generation=session.generation,
            ending=session.ending,
            counts=counts,
            waited=latency.series(CREATED_TO_POLLED),
        )
        active[:] = [poller]
        try:
            await poller.run()
        finally:
            active.clear()

    def measure() -> Iterable[Metric]:
        poller = next(iter(active), None)
        yield from poller_metrics(
            counts,
            active=poller is not None,
            watermark=poller.watermark if poller else None,
            polled_at=poller.polled_at if poller else None,
        )
        yield latency.collect()
        yield from member_metrics(group.lease)

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        if not active:
            return ""
        await client.command("SELECT 1")
        return "the source table has not been looked at"

    health.measure, health.state = measure, lambda: {"active": bool(active), "counts": dict(counts)}
    health.working()
    try:
        await watched(again(lambda: group.run(poll)), Watchdog(lambda: counts.total(), owes))
    finally:
        log.info("poller_ends", **counts)
        await producer.stop()
        await client.close()


async def _sink(settings: Settings, health: Health) -> None:
    settings, topics = await kafka_ready(settings, health)
    client = await clickhouse_ready(settings, health)
    writer = writer_for(settings)
    arguments = connection(settings)
    group = GroupConsumer(arguments, groups(settings.topic_prefix)["sink"], ())
    producer = LeasedProducer(arguments, group.lease)
    group.fence_with(producer.fence)
    tail = TailReader(arguments)
    latency = Histogram(STAGE_LATENCY)
    versions = KnownVersions()
    follower = Follower(arguments, topics.versions, versions.learn)
    await until_available("the label versions", follower.start)
    sink = Sink(
        client,
        settings.result_database,
        topics,
        sender=producer,
        tail=tail,
        topic_ids=Admin(arguments),
        lease=group.lease,
        writer=writer,
        unwanted=versions.unwanted,
        observe=StoringTime(latency).observe,
    )
    lags = Lags(BacklogReader(arguments), dict.fromkeys(sink.topics, "store"), group.done)
    group.subscribe(sink.topics)

    async def store(session: Session) -> None:
        await sink.run(session, session.committed, session.generation)

    def measure() -> Iterable[Metric]:
        yield from sink_metrics(sink.counts)
        yield latency.collect()
        yield from lags.measure()
        yield from member_metrics(group.lease)

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        positions = await group.positions()
        owed = f"{sink.waiting} messages were read and are not stored" if sink.waiting else ""
        if positions and not owed:
            owed = await lag_owed(positions, tail)
        if owed:
            await client.command("SELECT 1")  # if it does not answer, nothing is owed
        return owed

    health.measure, health.state = measure, lambda: {"counts": dict(sink.counts)}
    health.working()
    beside = [asyncio.create_task(follower.run()), asyncio.create_task(lags.run())]
    try:
        await watched(again(lambda: group.run(store)), Watchdog(lambda: sink.counts.total(), owes))
    finally:
        for task in beside:
            task.cancel()
        log.info("sink_ends", **sink.counts)
        await producer.stop()
        await client.close()
        await writer.close()
