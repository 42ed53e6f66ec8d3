"""The trainer's role: a cascade's proxies are taught, certified and watched here, and nowhere else.

Of several trainers one is active, the owner in a consumer group; the others stand by. Its memory is on the
versions topic, so that the next one goes on where it ended.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.connection import connection
from connectors.kafka.consumer import GroupConsumer, Session
from connectors.kafka.group_view import GroupView
from connectors.kafka.tail import TailReader
from connectors.llm.client import ChatClient
from streams.core.cascade import CascadeState
from streams.core.settings import Settings
from streams.jobs.scheduler import JobScheduler
from streams.observability.collectors import trainer_metrics, waits_metric
from streams.observability.health import Health
from streams.observability.watchdog import Watchdog
from streams.privacy.door import opened
from streams.runtime.lifecycle import membership_owed, watched
from streams.runtime.local_stack import with_local_stack
from streams.runtime.readiness import clickhouse_ready, kafka_ready
from streams.training.repair import Repairs
from streams.training.second_labels import SecondLabels
from streams.training.trainer import Trainer, empty_report

log = structlog.get_logger()

# Of a call for a second label, which nobody waits for.
_PATIENCE_SECONDS = 60.0


async def trainer(settings: Settings, health: Health) -> None:
    """Train until cancelled; with CASCADE=off do nothing.

    Raises:
        ConfigurationError: PRIVACY_ENTITIES asks for what cannot be masked here.
    """
    if settings.cascade == "off":
        log.info("cascade_off", setting="CASCADE", fix="set it to shadow or on")
        health.state = lambda: {"active": False, "cascade": "off", "versions": []}
        health.working()
        await asyncio.Event().wait()
    settings, topics = await kafka_ready(settings, health)
    arguments = connection(settings)
    brokers = AdminClient(arguments, kept=True)
    group = GroupConsumer(arguments, topics.groups.trainer)
    view = GroupView(arguments, topics.groups.trainer.name, brokers)
    told: dict[str, Any] = {"active": False, **empty_report()}

    async def owes() -> str:
        if problem := await membership_owed(settings, group.lease):
            return problem
        if told["active"] or not await view.assigned(group.lease.member):
            return ""
        return "the group has given the cascades to this process, and it does not work on them"

    def states() -> list[CascadeState]:
        return [state for _, state in sorted(told["states"].items()) if state is not None]

    health.state = lambda: {
        **{name: told[name] for name in ("active", "labels", "fits")},
        "cascade": settings.cascade,
        "versions": [one.model_dump(mode="json", exclude={"checkpoint"}) for one in states()],
    }
    async with opened(settings, start=True) as door, await clickhouse_ready(settings, health) as client:
        keeper = JobScheduler(lambda: with_local_stack(settings), door)
        health.measure = lambda: [
            *trainer_metrics(states(), active=told["active"]),
            waits_metric(keeper.waits, {topics.replay: "replay"}),
        ]

        async def work(session: Session) -> None:
            told["active"] = True
            try:
                await Trainer(
                    settings,
                    topics,
                    tail=TailReader(arguments, brokers),
                    ids=Admin(arguments, brokers),
                    sender=group.producer,
                    lease=group.lease,
                    generation=session.generation,
                    client=client,
                    repair=Repairs(lambda: keeper.context).begin,
                    told=told,
                    second=SecondLabels(
                        lambda: ChatClient.from_settings(
                            with_local_stack(settings), "labeler", patience_seconds=_PATIENCE_SECONDS
                        )
                    ),
                ).run(session.ending)
            finally:
                told["active"] = False

        health.working()
        try:
            async with keeper.at_work():
                await watched(group.run(work), Watchdog(lambda: told["labels"], owes))
        finally:
            await brokers.close()
