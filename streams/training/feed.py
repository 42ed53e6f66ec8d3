"""What is new on the topics of labels, from the offsets that were reached before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from streams.core.codec import decode
from streams.core.errors import UndecodableError
from streams.core.messages import HumanLabel
from streams.core.records import Partition, Record, partitions_of
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.ports.kafka import Tail, TopicIds
from streams.ports.lookups import Place
from streams.quality.audit import draw_number, salt_of
from streams.training.sights import Seen

# A first start takes older labels from the tables.
_FIRST_MILLIS = 600_000

Offsets = dict[str, dict[int, int]]


class Labels(NamedTuple):
    """Some messages of a partition. ``topic_id``: of its topic's incarnation; ``offsets``: of each message,
    ``labels``: what it says, and its version; None where it teaches nothing.
    """

    topic: str
    topic_id: str
    partition: int
    offsets: list[int]
    labels: list[HumanLabel | None]


class LabelTopics:
    """The topics of labels. ``offsets``: by the topic's incarnation and partition, the next offset: so that a
    topic which was made anew is read from its beginning.
    """

    def __init__(self, settings: Settings, topics: Topics, tail: Tail, ids: TopicIds) -> None:
        self.offsets: Offsets = {}
        self._topics = (topics.labeled, topics.shadow)
        self._partitions = settings.topic_partitions
        self._tail = tail
        self._ids = ids

    async def begin(self, offsets: Mapping[str, Mapping[int, int]], now_millis: int) -> None:
        """Go on from ``offsets``; without any, from some minutes ago."""
        self.offsets = {topic: dict(by) for topic, by in offsets.items()}
        if offsets:
            return
        ids = await self._ids.topic_ids(list(self._topics))
        places = [place for topic in self._topics for place in partitions_of(topic, self._partitions)]
        for place, offset in (await self._tail.offsets_at(places, now_millis - _FIRST_MILLIS)).items():
            self.offsets.setdefault(str(ids[place.topic]), {})[place.partition] = offset

    async def new(self) -> AsyncIterator[Labels]:
        """What is there now. ``offsets`` are advanced when the next is asked for."""
        ids = {topic: str(one) for topic, one in (await self._ids.topic_ids(list(self._topics))).items()}
        self.offsets = {one: self.offsets.get(one, {}) for one in ids.values()}
        places = {
            place: self.offsets[ids[topic]].get(place.partition, 0)
            for topic in self._topics
            for place in partitions_of(topic, self._partitions)
        }
        async for records in self._tail.read_many(places):
            for place, some in _by_partition(records).items():
                topic_id = ids[place.topic]
                yield Labels(
                    place.topic,
                    topic_id,
                    place.partition,
                    [one.offset for one in some],
                    [_label_in(one) for one in some],
                )
                self.offsets[topic_id][place.partition] = some[-1].offset + 1


def _by_partition(records: list[Record]) -> dict[Partition, list[Record]]:
    found: dict[Partition, list[Record]] = {}
    for one in records:
        found.setdefault(Partition(one.topic, one.partition), []).append(one)
    return found


def _label_in(record: Record) -> HumanLabel | None:
    """The label in a message; None of one that cannot be read, or repeats an equal text's answer."""
    try:
        label = decode(HumanLabel, record.value)
    except UndecodableError:
        return None
    return None if label.cached else label


def seen_of(settings: Settings, label: HumanLabel) -> Seen:
    """A label as it is taught."""
    place = Place(label.created_at, label.row_id)
    drawn = draw_number(salt_of(settings), place) < settings.review_audit_share
    return Seen(
        label.text,
        label.label,
        micros_of(label.labeled_at),
        label.decided_by,
        label.proxy_generation,
        drawn,
    )
