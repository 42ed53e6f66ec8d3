"""What an event of the agents holds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from streams.pipeline.faust_app import _Consumer


class Consumer:
    """What `_Consumer.getmany` asks of Faust."""

    should_stop = False
    flow_active = True

    def __init__(self, found: dict[TopicPartition, list[Any]], active: set[TopicPartition]) -> None:
        self.app = SimpleNamespace(consumer_generation_id=1)
        self._found = found
        self._active = active
        # Faust drops an event whose offset is lower: here, those of all its partitions.
        self._read_offset: dict[TopicPartition, int | None] = dict.fromkeys(found, 1000)

    async def _wait_next_records(self, timeout: float) -> tuple[dict[Any, Any], set[Any]]:
        return self._found, self._active

    def _to_message(self, tp: TopicPartition, record: Any) -> Any:
        return SimpleNamespace(tp=tp, offset=record.offset, value=None)


def fetched(topic: str, partition: int, *offsets: int) -> tuple[TopicPartition, list[Any]]:
    return TopicPartition(topic, partition), [
        ConsumerRecord(topic, partition, offset, 0, 0, b"k", b"v", None, 1, 1, ()) for offset in offsets
    ]


def of(message: Any) -> list[tuple[str, int, list[int]]]:
    return [(some[0].topic, some[0].partition, [one.offset for one in some]) for some in message.value]


async def test_an_event_holds_all_that_a_fetch_brings_of_a_topic() -> None:
    found = dict(
        [fetched("rows", 0, 7, 8), fetched("labeled", 0, 3), fetched("rows", 1, 5), fetched("rows", 2, 6)]
    )
    found[TopicPartition("rows", 3)] = []
    consumer: Any = Consumer(found, set(found) - {TopicPartition("rows", 2)})
    events = [(tp, of(message)) async for tp, message in _Consumer.getmany(consumer, 1.0)]
    assert [told for _, told in events] == [
        [("rows", 0, [7, 8]), ("rows", 1, [5])],
        [("labeled", 0, [3])],
    ]
    assert all(consumer._read_offset[tp] is None for tp, _ in events)


async def test_nothing_follows_the_end_of_a_generation() -> None:
    consumer: Any = Consumer(dict([fetched("rows", 0, 1), fetched("labeled", 0, 1)]), set())
    consumer._active = None
    events = []
    async for _, message in _Consumer.getmany(consumer, 1.0):
        events.append(of(message))
        consumer.app.consumer_generation_id = 2
    assert events == [[("rows", 0, [1])]]
