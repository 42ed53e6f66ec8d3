"""What is between the topics and the tables is told whole, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from uuid import UUID

import pytest

from streams.core.errors import UnavailableError
from streams.core.records import Commit, Partition, Record
from streams.core.topics import Topics
from streams.jobs.in_flight_rows import InFlightRows

TOPICS = Topics("t")
ROWS, OTHER = Partition(TOPICS.rows, 0), Partition(TOPICS.rows, 1)
LABELED = Partition(TOPICS.labeled, 0)


class Kafka:
    """Every partition holds offsets 5 to 9. ``read``: what the groups have committed."""

    def __init__(self) -> None:
        self.read: dict[Partition, Commit] = {}

    async def positions(self, group: str, topics: Sequence[str]) -> dict[Partition, Commit]:
        done = 10 if group == "t-sink" else 7
        return {
            Partition(topic, n): self.read.get(Partition(topic, n), Commit(done))
            for topic in topics
            for n in (0, 1)
        }

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        return {topic: UUID(int=1) for topic in topics}

    async def written_many(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int, int]]:
        return dict.fromkeys(partitions, (5, 10))

    async def read_many(
        self, starts: Mapping[Partition, int], bounds: Mapping[Partition, tuple[int, int]]
    ) -> AsyncIterator[list[Record]]:
        for (topic, number), start in starts.items():
            first, end = bounds[Partition(topic, number)]
            yield [Record(topic, number, offset, 0, None, None) for offset in range(max(start, first), end)]


def way(kafka: Kafka) -> InFlightRows:
    return InFlightRows(TOPICS, kafka, kafka, kafka)  # type: ignore[arg-type]


async def test_messages_that_are_not_read_of_some_partitions() -> None:
    kafka = Kafka()
    kafka.read = {ROWS: Commit(9), LABELED: Commit(-1)}  # nobody has ever read the labels
    found = [(one.topic, one.partition, one.offset) async for one in way(kafka).of([0])]
    assert found[:1] == [(TOPICS.rows, 0, 9)]
    assert {partition for _, partition, _ in found} == {0}
    assert [offset for topic, _, offset in found if topic == TOPICS.labeled] == [5, 6, 7, 8, 9] * 2


@pytest.mark.parametrize("where", [ROWS, LABELED])
async def test_a_reader_that_may_hold_what_is_gone_is_waited_for(where: Partition) -> None:
    """It reads on in its own memory: what it has of it is on its way, and cannot be seen."""
    kafka = Kafka()
    kafka.read = {where: Commit(4)}
    with pytest.raises(UnavailableError, match=f"{where.topic}/0"):
        _ = [one async for one in way(kafka).of([0])]
    kafka.read = {where: Commit(5)}
    assert [one async for one in way(kafka).of([0])]
    kafka.read = {OTHER: Commit(4)}
    assert [one async for one in way(kafka).of([0])]
    with pytest.raises(UnavailableError):
        _ = [one async for one in way(kafka).all()]
