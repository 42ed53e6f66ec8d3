"""The labelled topic as it is written, as plain values: the API passes it on, the Kafka connector
reads it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import orjson

from streams.core.records import Record

# The next offset of each partition, in the partitions' order.
Positions = tuple[int, ...]
Start = Literal["now", "beginning"] | Positions


@dataclass(frozen=True, slots=True)
class LiveLabel:
    """A message of the labelled topic. ``data``: its JSON on one line; empty if it was no valid message,
    which is not shown but counts for the positions.
    """

    partition: int
    offset: int
    data: bytes = b""
    label: str = ""
    confidence: float | None = None
    source_domain: str | None = None


@dataclass(frozen=True, slots=True)
class LiveSlice:
    """Some messages, in order for each partition; none if nothing arrived for a while. ``before``: the
    positions before them.
    """

    before: Positions
    labels: Sequence[LiveLabel]


class Feed(Protocol):
    """Reads the topic for any number of readers."""

    def follow(self, start: Start, idle_seconds: float) -> AsyncGenerator[LiveSlice]:
        """From ``start`` on, without gaps. The first slice is empty and holds the positions. Ends when the
        reader is too slow, or when the service ends: a reader that continues from its positions loses
        nothing.

        Raises:
            RefusedError: the number of partitions is another one.
            UnavailableError, AccessError: before the first slice.
        """


def live_label(record: Record) -> LiveLabel:
    """The content of a record of the labelled topic."""
    value = record.value or b""
    try:
        found = orjson.loads(value)
        label, confidence = str(found["label"]), found.get("confidence")
        domain = found.get("source_domain")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return LiveLabel(record.partition, record.offset)
    if b"\n" in value or b"\r" in value:  # written by another program; a line end would end the event
        value = orjson.dumps(found)
    return LiveLabel(
        record.partition,
        record.offset,
        value,
        label,
        float(confidence) if isinstance(confidence, (int, float)) else None,
        domain if isinstance(domain, str) else None,
    )
