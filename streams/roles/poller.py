"""The poller's role: publishes the source table's rows, or stands by while another poller is active."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.clickhouse.erasure.erased_list import ErasedRows
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.lost.lost_rows import LostRows
from connectors.clickhouse.poller.poller import Poller
from connectors.clickhouse.poller.publisher import written_partitions
from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.follow import Follower
from connectors.kafka.group_view import GroupView
from connectors.kafka.headroom import ReaderHeadroom
from connectors.kafka.reader_positions import ReaderPositions
from connectors.kafka.tail import TailReader
from streams.canary.keeper import keep_canary
from streams.core.availability import until_available
from streams.core.background import in_background
from streams.core.losses import Losses
from streams.core.messages import Row
from streams.core.records import Record
from streams.core.settings import Settings
from streams.drift.traffic import TrafficDrift
from streams.jobs.in_flight_rows import InFlightReader
from streams.jobs.job import Jobs
from streams.observability.collectors import (
    canary_metrics,
    member_metrics,
    outage_metric,
    outages_of,
    poller_metrics,
    privacy_metrics,
    privacy_state,
    span_metrics,
    waits_metric,
)
from streams.observability.health import Health
from streams.observability.metrics import CREATED_TO_POLLED, STAGE_LATENCY, Histogram
from streams.observability.publish_spans import PublishSpans
from streams.observability.tracer import Tracer
from streams.observability.watchdog import Watchdog
from streams.privacy.door import Door, opened
from streams.quality.discovery.hourly import HourlyLook
from streams.runtime.lifecycle import membership_owed, watched
from streams.runtime.readiness import clickhouse_ready, kafka_ready
from streams.runtime.tracing import traced
from streams.versions.recalibration import keep_calibrated

log = structlog.get_logger()

_MOST_AHEAD = 1_000_000  # rows that may wait for the agents, however long the topic keeps them


async def poller(settings: Settings, health: Health) -> None:
    """Poll until cancelled.

    Raises:
        ConfigurationError: PRIVACY_ENTITIES asks for what cannot be masked here.
    """
    async with opened(settings, start=True) as door, traced(settings, "poller") as tracer:
        await _poller(settings, health, door, tracer)


async def _poller(settings: Settings, health: Health, door: Door | None, tracer: Tracer | None) -> None:
    settings, topics = await kafka_ready(settings, health)
    client = await clickhouse_ready(settings, health)
    arguments = connection(settings)
    brokers = AdminClient(arguments, kept=True)
    admin, tail = Admin(arguments, brokers), TailReader(arguments, brokers)
    group = GroupConsumer(arguments, topics.groups.poller)
    view = GroupView(arguments, topics.groups.poller.name, brokers)
    readers = ReaderPositions(arguments, topics.groups.readers_of([topics.rows]), brokers)
    headroom = ReaderHeadroom(readers, most=_MOST_AHEAD, size_of=group.producer.size_of)
    counts: Counter[str] = Counter()
    latency = Histogram(STAGE_LATENCY)
    active: list[Poller] = []
    topics_look = HourlyLook(settings)
    watching: list[TrafficDrift] = []
    spans = None
    if tracer is not None:
        spans = PublishSpans(tracer, Row.made_by, settings.source_table, topics.dead_letter)
    written = written_partitions(topics, settings.topic_partitions)

    losses, jobs = Losses(), Jobs()

    def learn(record: Record) -> None:
        losses.learn(record)
        jobs.learn(record)

    follower = Follower(arguments, topics.cursor, learn)
    health.wait_for("the cursor")
    await until_available("the cursor", follower.start)

    async def poll(session: Session) -> None:
        in_flight = InFlightReader(arguments, topics, brokers)
        lost = LostRows(
            client,
            settings,
            topics,
            losses,
            in_flight=in_flight,
            tail=tail,
            sender=group.producer,
            lease=group.lease,
            headroom=headroom,
            generation=session.generation,
            counts=counts,
            door=door,
        )
        poller = Poller(
            BulkSource(client, settings),
            topics,
            settings,
            partitions=settings.topic_partitions,
            sender=group.producer,
            tail=tail,
            topic_ids=admin,
            lease=group.lease,
            headroom=headroom,
            lost=lost,
            generation=session.generation,
            ending=session.ending,
            counts=counts,
            waited=latency.series(CREATED_TO_POLLED),
            door=door,
            erased=ErasedRows(client, settings).now,
            spans=spans,
        )
        active[:] = [poller]
        drift = TrafficDrift(
            settings,
            topics,
            sender=group.producer,
            lease=group.lease,
            tail=tail,
            in_flight=in_flight,
            published=lambda: poller.published_until,
            generation=session.generation,
        )
        watching[:] = [drift]
        comparing = in_background(drift.run(), "compare labels with the reference")
        # Here because only one poller is active, and it runs always.
        calibrating = in_background(keep_calibrated(settings), "keep the labels calibrated")
        looking = in_background(topics_look.run(), "look for what is new")
        try:
            await poller.run()
        finally:
            looking.cancel()
            calibrating.cancel()
            comparing.cancel()
            active.clear()
            watching.clear()

    def measure() -> Iterable[Metric]:
        poller = next(iter(active), None)
        yield from poller_metrics(
            counts,
            active=poller is not None,
            watermark=poller.watermark if poller else None,
            polled_at=poller.polled_at if poller else None,
            unread=bool(poller and poller.problem),
        )
        yield waits_metric(headroom.waits, {topics.rows: "poll"})
        yield outage_metric(group.producer.outages)
        for drift in watching.copy():
            yield from drift.measure()
        if active:
            yield from topics_look.measure()
        yield from privacy_metrics(door)
        canary = jobs.last_canary()
        yield from canary_metrics(None if canary is None else jobs.as_dict(canary))
        yield latency.collect()
        yield from member_metrics(group.lease)
        yield from span_metrics(tracer)

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        if not await view.assigned(group.lease.member):
            return ""  # it stands by
        if group.producer.outages:
            return ""  # it may wait for a partition; the log says so
        await client.command("SELECT 1")
        # One that begins waits for every partition that it must read first.
        await tail.bounds_many(written)
        return "the source table has not been looked at"

    def state() -> dict[str, Any]:
        waits = [wait._asdict() for wait in headroom.waits]
        return {
            "active": bool(active),
            "counts": dict(counts),
            "waits_for": waits,
            "losses": len(losses.open),
            "outages": outages_of(group.producer.outages),
            "problem": active[0].problem if active else "",
            "privacy": privacy_state(door),
        }

    def progress() -> tuple[int, int]:
        masked = door.progress if door is not None else 0
        # A poller that waits for readers checks them all the time.
        return counts.total() + masked, headroom.looks

    health.measure, health.state = measure, state
    health.working()
    try:
        # A canary has a group of its own: any poller may run it, one that stands by too.
        canary = keep_canary(settings, jobs, door, tracer)
        await watched(group.run(poll), Watchdog(progress, owes), follower.run(), canary)
    finally:
        log.info("poller_ends", **counts)
        await readers.close()
        await brokers.close()
        await client.close()
