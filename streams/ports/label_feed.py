"""The labelled topic as it is written, as plain values: the API passes it on, the Kafka connector
reads it.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

import orjson

from streams.core.records import Record
from streams.core.times import micros_of

# The next offset of each partition, in the partitions' order.
Positions = tuple[int, ...]
Start = Literal["now", "beginning"] | Positions


_LONG_AGO = -(2**62)


@dataclass(frozen=True, slots=True)
class LiveLabel:
    """A message of the labelled topic. ``data``: its JSON on one line; empty if it was no valid message,
    which is not shown but counts for the positions. ``micros``: the row's time since 1970; one
    that cannot be read counts as long ago.
    """

    partition: int
    offset: int
    data: bytes = b""
    label: str = ""
    confidence: float | None = None
    source_domain: str | None = None
    row_id: str = ""
    user_id: str | None = None
    micros: int = _LONG_AGO


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
            UnavailableError, ConfigurationError: before the first slice; for old messages also while nobody
                knows which rows were erased.
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
    micros, user = _LONG_AGO, found.get("user_id")
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        micros = micros_of(datetime.fromisoformat(found["created_at"]))
    if b"\n" in value or b"\r" in value:  # written by another program; a line end would end the event
        value = orjson.dumps(found)
    return LiveLabel(
        record.partition,
        record.offset,
        value,
        label,
        float(confidence) if isinstance(confidence, (int, float)) else None,
        domain if isinstance(domain, str) else None,
        str(found.get("row_id") or ""),
        user if isinstance(user, str) else None,
        micros,
    )
