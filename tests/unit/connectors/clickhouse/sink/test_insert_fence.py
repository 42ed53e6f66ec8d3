"""How long an insert may take, beside how long the group waits."""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.tables import INSERT_SECONDS
from connectors.clickhouse.sink.sink import writer_for
from connectors.kafka.connection import SESSION_SECONDS
from streams.core.settings import Settings


def test_an_insert_gives_up_before_the_session_ends() -> None:
    """A server that holds an insert must not hold it longer than the group waits for us."""
    settings = Settings(clickhouse_host="h")
    arguments = writer_for(settings, ClickHouseClient.from_settings(settings))._arguments
    assert INSERT_SECONDS < arguments["send_receive_timeout"] < SESSION_SECONDS
    assert arguments["connect_timeout"] < SESSION_SECONDS - INSERT_SECONDS + 0.5
