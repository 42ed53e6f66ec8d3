"""Creates what is needed before the first message: topics and result tables."""

from __future__ import annotations

from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables, plan_tables
from connectors.clickhouse.schema.planning import PlanningClient
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection, reach
from streams.core.settings import Settings


async def initialise(settings: Settings) -> dict[str, Any]:
    """Create the missing topics and result tables, change topic settings that differ as far as nothing can be
    lost by it, and migrate tables of an older release.

    Raises:
        UnavailableError, ConfigurationError: naming what does not answer, or which right is missing.
    """
    await reach(settings)
    topics = await Admin(connection(settings)).create_topics(settings)
    async with ClickHouseClient.from_settings(settings) as client:
        migrated = await create_tables(client, settings)
    return {
        "topics": [topic.name for topic in topics.made],
        "topic_settings": [change.told() for change in topics.changes if not change.kept],
        "database": settings.result_database,
        "migrations": migrated,
    }


async def plan(settings: Settings) -> dict[str, list[str]]:
    """What `initialise` would run, in order: commands of Kafka's tools for `topics`, SQL for `tables`.
    Nothing is changed.

    Raises:
        UnavailableError, ConfigurationError: as `initialise`.
    """
    await reach(settings)
    topics = await Admin(connection(settings)).plan_topics(settings)
    async with PlanningClient.from_settings(settings) as client:
        await plan_tables(client, settings)
        return {"topics": topics.statements(), "tables": client.statements}
