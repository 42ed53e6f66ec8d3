"""A broker that deletes old messages within a second, where Kafka's own looks every five minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from connectors.local.kafka import KafkaNode

BROKER = (
    "log.retention.check.interval.ms=200\nlog.initial.task.delay.ms=100\nlog.segment.delete.delay.ms=100\n"
)


@contextlib.contextmanager
def fast_deletion() -> Iterator[None]:
    """Brokers that are started meanwhile look for old segments five times a second."""
    before = KafkaNode._write_settings

    def write(node: KafkaNode, log_dir: Path) -> None:
        before(node, log_dir)
        with node._settings.open("a", encoding="utf-8") as file:
            file.write(BROKER)

    KafkaNode._write_settings = write  # type: ignore[method-assign]
    try:
        yield
    finally:
        KafkaNode._write_settings = before  # type: ignore[method-assign]


async def keep(kafka: str, topic: str, seconds: float, *, segment_bytes: int | None = None) -> None:
    """Have ``topic`` keep its messages so long, in segments of at most a third of it."""
    config = {
        "retention.ms": str(int(seconds * 1000)),
        "segment.ms": str(max(100, int(seconds * 1000 / 3))),
    }
    if segment_bytes is not None:
        config["segment.bytes"] = str(segment_bytes)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=config)])
    finally:
        await admin.close()
