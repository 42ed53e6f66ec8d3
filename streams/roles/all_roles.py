"""Runs every role as a process of its own, and restarts it when it fails."""

from __future__ import annotations

import os

from streams.core.availability import until_available
from streams.core.settings import Settings
from streams.observability.collectors import supervisor_metrics
from streams.observability.health import Health
from streams.runtime.local_stack import with_local_stack
from streams.runtime.provisioning import initialise
from streams.runtime.supervisor import Supervisor

SUPERVISED = ("poller", "agents", "sink", "api", "trainer")


async def every(settings: Settings, health: Health) -> None:
    """Create what is missing, then supervise until cancelled."""

    async def attempt() -> None:
        await initialise(with_local_stack(settings))

    health.wait_for("Kafka and ClickHouse")
    await until_available("Kafka and ClickHouse", attempt)
    # The port is for this process; each role takes a free one.
    supervisor = Supervisor(SUPERVISED, {**os.environ, "HEALTH_PORT": "0"})
    health.state = lambda: {"pids": supervisor.pids, "restarts": dict(supervisor.restarts)}
    health.measure = lambda: supervisor_metrics(supervisor.restarts, SUPERVISED)
    health.working()
    await supervisor.run()
