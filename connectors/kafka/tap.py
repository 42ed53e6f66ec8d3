"""Tap: prints the messages of a topic."""

from __future__ import annotations

import base64
from collections.abc import Callable

import orjson

from connectors.kafka.connection import connection, start_client, ungrouped_consumer
from connectors.kafka.errors import translate
from connectors.kafka.tail import to_record
from streams.core.errors import ConfigurationError
from streams.core.records import Record
from streams.core.settings import Settings


async def tap(
    settings: Settings, topic: str, *, count: int, beginning: bool, write: Callable[[bytes], None]
) -> None:
    """Call ``write`` with one JSON object for each message, without a consumer group; ``count`` 0 means for
    ever.

    Raises:
        ConfigurationError: there is no such topic.
        UnavailableError, AccessError.
    """
    consumer = ungrouped_consumer(
        connection(settings), auto_offset_reset="earliest" if beginning else "latest"
    )
    try:
        await start_client(consumer, consumer.stop)
        if topic not in await consumer.topics():
            raise ConfigurationError(
                f"there is no topic {topic}",
                setting="TOPIC_PREFIX",
                fix="`labelstream init` makes the topics; their names begin with TOPIC_PREFIX",
            )
        consumer.subscribe([topic])
        seen = 0
        async for message in consumer:
            write(as_json(to_record(message)))
            seen += 1
            if seen == count:
                return
    except Exception as error:
        raise translate(error) from error
    finally:
        await consumer.stop()


def as_json(record: Record) -> bytes:
    """One line: position, key, headers and value. A value that is not JSON is in base64."""
    try:
        value: object = None if record.value is None else orjson.loads(record.value)
        form = {}
    except orjson.JSONDecodeError:
        value, form = base64.b64encode(record.value or b"").decode(), {"value_encoding": "base64"}
    return orjson.dumps(
        {
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": None if record.key is None else record.key.decode("utf-8", "replace"),
            "headers": {name: content.decode("utf-8", "replace") for name, content in record.headers},
            **form,
            "value": value,
        }
    )
