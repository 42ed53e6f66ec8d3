"""The fetcher's role: every FETCH_INTERVAL_HOURS the new rows of the source table as a file and as a job.

Of several fetchers one is active, the owner in a consumer group; the others stand by. Its progress is kept in
the cursor topic, so that after a downtime the next fetch begins where the last one ended.
"""

from __future__ import annotations

from typing import Any

import structlog

from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.group_view import GroupView
from connectors.kafka.tail import TailReader
from streams.core.settings import Settings
from streams.files.scheduled_fetch import Fetching
from streams.jobs.scheduler import JobScheduler
from streams.observability.collectors import privacy_metrics, privacy_state, waits_metric
from streams.observability.health import Health
from streams.observability.watchdog import Watchdog
from streams.privacy.door import Door, opened
from streams.runtime.lifecycle import membership_owed, watched
from streams.runtime.local_stack import with_local_stack
from streams.runtime.readiness import kafka_ready

log = structlog.get_logger()


async def fetcher(settings: Settings, health: Health) -> None:
    """Fetch until cancelled.

    Raises:
        ConfigurationError: PRIVACY_ENTITIES asks for what cannot be masked here.
    """
    async with opened(settings, start=True) as door:
        await _fetcher(settings, health, door)


async def _fetcher(settings: Settings, health: Health, door: Door | None) -> None:
    settings, topics = await kafka_ready(settings, health)
    arguments = connection(settings)
    brokers = AdminClient(arguments, kept=True)
    group = GroupConsumer(arguments, topics.groups.fetcher)
    view = GroupView(arguments, topics.groups.fetcher.name, brokers)
    keeper = JobScheduler(lambda: with_local_stack(settings), door)
    told: dict[str, Any] = {"active": False, "fetches": 0, "rows": 0}

    async def work(session: Session) -> None:
        told["active"] = True
        try:
            tail = TailReader(arguments, brokers)
            await Fetching(settings, topics, tail, keeper, group.producer, told).run(session)
        finally:
            told["active"] = False

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        if told["active"] or not await view.assigned(group.lease.member):
            return ""
        return "the group has given the fetches to this process, and it does not work on them"

    health.state = lambda: {**told, "privacy": privacy_state(door)}
    health.measure = lambda: [
        waits_metric(keeper.waits, {topics.replay: "replay"}),
        *privacy_metrics(door),
    ]
    health.working()
    try:
        async with keeper.at_work():
            await watched(group.run(work), Watchdog(lambda: told["fetches"], owes))
    finally:
        await brokers.close()
