"""A label that cannot be written is refused at once: each try would be one more message that waits."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from streams.core.errors import UnavailableError
from streams.core.messages import Labeled
from streams.core.records import Outage, Partition
from streams.core.settings import Settings
from streams.core.topics import partition_of
from streams.review.topic import _Wire

_PARTITIONS = 8
_AT = datetime(2026, 1, 1, tzinfo=UTC)


def label(text: str) -> Labeled:
    return Labeled(
        row_id="1",
        text=text,
        created_at=_AT,
        polled_at=_AT,
        label="payment",
        label_version="human",
        model="human",
        labeled_at=_AT,
    )


async def test_a_label_for_a_partition_that_cannot_be_written_is_refused_at_once() -> None:
    wire = _Wire(Settings(kafka_bootstrap_servers="127.0.0.1:1"))
    message = label("где мой заказ")
    where = Partition(wire.topics.labeled, partition_of(message.text, _PARTITIONS))
    wire.producer.outages[where] = Outage(0.0, "it has no leader")
    with pytest.raises(UnavailableError, match="it has no leader"):
        await wire.publish(message, _PARTITIONS)
    assert wire.producer._current is None
