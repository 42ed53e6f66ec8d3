"""Creates what is needed before the first message: topics and result tables."""

from __future__ import annotations

from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import create_tables
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection, reach
from streams.core.settings import Settings


async def initialise(settings: Settings) -> dict[str, Any]:
    """Create the missing topics and result tables; migrate tables of an older release.

    Raises:
        UnavailableError, ConfigurationError: naming what does not answer, or which right is missing.
    """
    await reach(settings)
    made = await Admin(connection(settings)).create_topics(settings)
    async with ClickHouseClient.from_settings(settings) as client:
        migrated = await create_tables(client, settings)
    return {"topics": made, "database": settings.result_database, "migrations": migrated}
