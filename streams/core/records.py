"""Messages, partitions and commits as values."""

from __future__ import annotations

from streams.ports.kafka import Partition


def partitions_of(topic: str, count: int) -> list[Partition]:
    """All of a topic's partitions."""
    return [Partition(topic, number) for number in range(count)]
