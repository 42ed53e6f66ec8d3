"""Messages, partitions and commits as values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import orjson

T = TypeVar("T")


def partitions_of(topic: str, count: int) -> list[Partition]:
    """All of a topic's partitions."""
    return [Partition(topic, number) for number in range(count)]


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


# Named tuples: millions of messages are processed, and a frozen dataclass takes four times as long to create.
class Record(NamedTuple):
    """A message as it was received. ``timestamp`` is Kafka's, in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def source(self) -> tuple[str, int, int]:
        """Topic, partition and offset."""
        return (self.topic, self.partition, self.offset)

    def header(self, name: str) -> bytes | None:
        """The last header of that name."""
        for key, value in reversed(self.headers):
            if key == name:
                return value
        return None


class Outgoing(NamedTuple):
    """A message to be sent to an explicit partition."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def content(self) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
        """Key, value and headers, as a `Run` has them."""
        return self.key, self.value, list(self.headers)


class Outage(NamedTuple):
    """An output partition that cannot be written now: ``since`` when (seconds since 1970), and ``why``."""

    since: float
    why: str


# In a commit's metadata: the incarnation of its topic, or of several by name.
TOPIC_ID, TOPIC_IDS = "topic-id", "topic-ids"


class Commit(NamedTuple):
    """An input position: the next offset to read, and metadata for a later owner."""

    offset: int
    metadata: str = ""


def known_in(metadata: str) -> dict[str, Any]:
    """A commit's metadata; empty if another program wrote it (such as Kafka's own tools)."""
    try:
        found = orjson.loads(metadata)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def made_anew(metadata: str, topic: str, topic_id: str) -> bool:
    """Whether a commit speaks of another incarnation of its ``topic`` than ``topic_id``. The agents note the
    incarnations of several topics, the sink that of the topic alone."""
    known = known_in(metadata)
    several = known.get(TOPIC_IDS)
    noted = several.get(topic, topic_id) if isinstance(several, dict) else known.get(TOPIC_ID, topic_id)
    return bool(noted != topic_id)


class Run(NamedTuple):
    """Messages for one partition, in order: key, value and headers of each, created lazily."""

    topic: str
    partition: int
    messages: Iterator[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]

    @classmethod
    def of(cls, where: Partition, messages: Iterable[Outgoing]) -> Run:
        """The run of ``messages``, all for one partition."""
        return cls(*where, (message.content for message in messages))


def by_partition(found: Iterable[T], message_of: Callable[[T], Outgoing]) -> dict[Partition, list[T]]:
    """``found`` by the partition that the message of each is for, in order."""
    places: dict[Partition, list[T]] = {}
    for one in found:
        places.setdefault(Partition(*message_of(one)[:2]), []).append(one)
    return places
