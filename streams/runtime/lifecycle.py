"""Runs a role: serves its health, runs a watchdog beside it, and ends it with a reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from connectors.kafka.connection import reach
from connectors.kafka.group_view import GroupView
from connectors.kafka.lease import GroupLease
from streams.core.records import Partition
from streams.core.settings import Settings
from streams.observability.health import Health, served
from streams.observability.watchdog import StalledError, Watchdog

log = structlog.get_logger()

# A member without a heartbeat for so long, although its brokers answer, is stuck in its own client.
SILENT_SECONDS = 30.0


async def run_with_health(
    settings: Settings, role: str, work: Callable[[Settings, Health], Coroutine[Any, Any, None]]
) -> None:
    """Run ``work`` and serve its health, until cancelled.

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


async def watched(
    work: Coroutine[Any, Any, None], watchdog: Watchdog, *beside: Coroutine[Any, Any, None]
) -> None:
    """Run ``work`` with ``watchdog`` and the coroutines ``beside`` it. When one of them ends, all are
    cancelled, and the work may finish its clean-up.

    Raises:
        StalledError: from the watchdog, or one of them was cancelled by something in it.
        whatever ends one of the others.
    """
    tasks = [asyncio.ensure_future(one) for one in (watchdog.run(), work, *beside)]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    if any(task.cancelled() for task in ended):  # nobody asked for it, and the process would end with code 0
        raise StalledError("a task of the role was cancelled from inside")


async def membership_owed(settings: Settings, lease: GroupLease) -> str:
    """The problem with the membership in the group; empty if there is none, or if Kafka is down."""
    if lease.generation != -1 and lease.age < SILENT_SECONDS:
        return ""
    await reach(settings)
    if lease.generation == -1:
        return "not a member of the consumer group, though Kafka answers"
    return f"no heartbeat for {lease.age:.0f} s, though Kafka answers"


async def lag_owed(view: GroupView, lease: GroupLease, outages: Iterable[Partition] = ()) -> str:
    """A partition of this process, by the group's assignment, that has uncommitted messages; empty if there
    is none. Those with the number of one of the ``outages`` wait for that one.
    """
    waiting = {where.partition for where in outages}
    found = await view.behind(lease.member)
    behind = {where: count for where, count in found.items() if where.partition not in waiting}
    if not behind:
        return ""
    worst = max(behind, key=lambda partition: behind[partition])
    return f"{sum(behind.values())} messages wait, most in {worst.topic}/{worst.partition}"
