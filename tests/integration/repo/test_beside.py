"""What runs beside the product, on a real broker: the subscriber in examples/, the image's health check."""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime

import pytest

from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from streams.core.codec import encode, headers_of
from streams.core.environment import load
from streams.core.messages import Labeled
from streams.core.records import Outgoing
from streams.core.settings import Settings
from tests.stack import SharedStack
from tests.unit.repo.command_lines import ROOT
from tests.waiting import PATIENCE

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def settings(shared: SharedStack) -> Settings:
    kafka = shared.kafka().address
    assert kafka
    return load({"KAFKA_BOOTSTRAP_SERVERS": kafka, "TOPIC_PARTITIONS": "2"}, None)


def labeled(row_id: str, label: str, confidence: float | None) -> Labeled:
    return Labeled(
        row_id=row_id,
        text="где мой заказ",
        created_at=NOW,
        polled_at=NOW,
        label=label,
        confidence=confidence,
        label_version="v1",
        model="m",
        labeled_at=NOW,
    )


async def publish(settings: Settings, messages: list[Labeled]) -> None:
    producer = LeasedProducer(connection(settings))
    await producer.start()
    try:
        for number, message in enumerate(messages):
            value, headers = encode(message), headers_of(message, source=("esk.rows", 0, number))
            outgoing = Outgoing("esk.labeled", number % 2, message.row_id.encode(), value, headers)
            await producer.send(outgoing)
    finally:
        await producer.stop()


async def test_the_subscriber_prints_each_label(settings: Settings) -> None:
    await Admin(connection(settings)).create_topics(settings)
    await publish(settings, [labeled("17", "delivery", 0.93), labeled("18", "refund", None)])
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "examples" / "subscribe.py"),
        env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": str(settings.kafka_bootstrap_servers)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout
    try:
        async with asyncio.timeout(PATIENCE):
            earlier = {(await process.stdout.readline()).decode() for _ in range(2)}
            await publish(settings, [labeled("19", "tariff", 0.5)])
            later = (await process.stdout.readline()).decode()
    finally:
        process.kill()
        await process.wait()
    assert earlier == {"17\tdelivery\t0.93\n", "18\trefund\tNone\n"}
    assert later == "19\ttariff\t0.5\n"
