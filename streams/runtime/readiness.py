"""Waits for what every role needs before it can start; logs it once, and reports it to the health
endpoint.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection, reach
from connectors.kafka.topics.declared import refuse_other_count
from connectors.llm.client import ChatClient
from streams.core.availability import until_available
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.observability.health import Health
from streams.runtime.local_stack import with_local_stack
from streams.runtime.secret import secret_ready


async def kafka_ready(settings: Settings, health: Health) -> tuple[Settings, Topics]:
    """Wait for Kafka and for the topics; the settings with the local stack's addresses filled in.

    Raises:
        ConfigurationError: `PRIVACY_SECRET` is not the one that rows were published with.
    """

    async def attempt() -> Settings:
        found = with_local_stack(settings)
        await reach(found)
        return found

    health.wait_for("Kafka")
    settings = await until_available("Kafka", attempt)
    topics = Topics(settings.topic_prefix)

    async def made() -> None:
        admin = Admin(connection(settings))
        wanted = {topic.name: topic for topic in topics.all()}
        found = await admin.find(list(wanted), config=False)
        missing = sorted(set(wanted) - set(found))
        if missing:
            raise ConfigurationError(
                f"there is no topic {', '.join(missing)}",
                setting="TOPIC_PREFIX",
                fix="make the topics and tables: labelstream init",
            )
        for topic in found.values():
            refuse_other_count(topic.partitions, wanted[topic.name], settings)

    health.wait_for("the topics: labelstream init makes them")
    await until_available("the topics", made)
    await secret_ready(settings)
    return settings, topics


async def clickhouse_ready(settings: Settings, health: Health) -> ClickHouseClient:
    """Wait for ClickHouse; returns a connected client."""

    async def attempt() -> ClickHouseClient:
        client = ClickHouseClient.from_settings(with_local_stack(settings))
        try:
            await client.command("SELECT 1")
        except BaseException:
            await client.close()
            raise
        return client

    health.wait_for("ClickHouse")
    return await until_available("ClickHouse", attempt)


@contextlib.asynccontextmanager
async def chat_ready(settings: Settings, which: str, health: Health) -> AsyncIterator[ChatClient]:
    """A client for the ``labeler`` or the ``augmenter``, as soon as its address is known, and several
    addresses have the same model.
    """

    async def attempt() -> ChatClient:
        found = ChatClient.from_settings(with_local_stack(settings), which)
        try:
            await found.agree()
        except BaseException:
            await found.close()
            raise
        return found

    health.wait_for(f"the {which}'s endpoint")
    client = await until_available(f"the {which} endpoint", attempt)
    try:
        yield client
    finally:
        await client.close()
