"""A role on duty: served health, a watchdog beside the work, and an end that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import structlog

from connectors.kafka.connection import reach
from connectors.kafka.lease import GroupLease
from streams.core.records import Partition
from streams.core.settings import Settings
from streams.observability.health import Health, served
from streams.observability.watchdog import StalledError, Watchdog
from streams.ports.kafka import Tail

log = structlog.get_logger()

# Without a heartbeat for so long, a member whose brokers answer has been forgotten by its own client.
SILENT_SECONDS = 30.0


async def on_duty(
    settings: Settings, role: str, work: Callable[[Settings, Health], Coroutine[Any, Any, None]]
) -> None:
    """Run ``work`` with its health served, until cancelled.

    Raises:
        StalledError, UnavailableError and whatever else ends the work.
    """
    health = Health(role)
    async with served(health, settings.health_host, settings.health_port, settings.labelstream_data):
        try:
            await work(settings, health)
        except StalledError as error:
            health.stalled = str(error)
            log.error("role_stalled", role=role, reason=str(error))
            raise


async def watched(work: Coroutine[Any, Any, None], watchdog: Watchdog) -> None:
    """Run ``work`` beside ``watchdog``; whichever ends first ends both, and the work settles."""
    working = asyncio.ensure_future(work)
    watching = asyncio.create_task(watchdog.run())
    try:
        await asyncio.wait([working, watching], return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        working.cancel()
        await asyncio.wait([working, watching])
    for task in (watching, working):
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def membership_owed(settings: Settings, lease: GroupLease) -> str:
    """What is wrong with the membership in the group; empty if nothing, or if Kafka is away."""
    if lease.generation != -1 and lease.age < SILENT_SECONDS:
        return ""
    await reach(settings)
    if lease.generation == -1:
        return "not a member of the consumer group, though Kafka answers"
    return f"no heartbeat for {lease.age:.0f} s, though Kafka answers"


async def lag_owed(positions: Mapping[Partition, int], tail: Tail) -> str:
    """Which of the owned partitions has messages beyond its position; empty for none."""
    bounds = await tail.bounds_many(list(positions))
    behind = {p: end - at for p, at in positions.items() if (end := bounds[p][1]) > max(at, bounds[p][0])}
    if not behind:
        return ""
    worst = max(behind, key=lambda partition: behind[partition])
    return f"{sum(behind.values())} messages wait, most in {worst.topic}/{worst.partition}"
