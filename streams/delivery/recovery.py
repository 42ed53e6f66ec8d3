"""Takes over partitions: reads from the tail of the outputs what their former owner has published.

The tail tells two things. First, which rows are done, by identity, from the floors in the last commits on:
this prevents that a row is published twice. Second, answers of the model, from further back: the model is not
asked again about a text whose answer was published by any worker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streams.core.records import Commit, Partition
from streams.delivery.commit_window import floors_of
from streams.delivery.deduplication import Floors, Memory, source_of
from streams.delivery.routes import Flow
from streams.ports.kafka import Tail


@dataclass(frozen=True)
class TakenOver:
    """What was learned. ``memories``, ``floors`` and ``befores`` by partition number.

    ``befores``: where the tail that was read begins. ``reach``: for each input, the offset after the last
    message whose output is in the tail.
    """

    memories: dict[int, Memory]
    floors: dict[int, Floors]
    befores: dict[int, dict[str, int]]
    reach: dict[Partition, int]


class Takeover:
    """Reads for one worker. Answers of an output are read once only."""

    def __init__(self, flow: Flow, tail: Tail, recalled: int) -> None:
        """``recalled``: number of messages of an output, over all owned partitions, that are read for their
        answers.
        """
        self._flow = flow
        self._tail = tail
        self._most = recalled
        self._seen: dict[tuple[Partition, str], int] = {}  # with the incarnation -> up to which offset

    async def read(
        self, committed: Mapping[Partition, Commit], anew: set[Partition], ids: Mapping[str, str]
    ) -> TakenOver:
        """Learn what the former owners of the ``committed`` partitions have published.

        ``anew``: those whose topic was recreated since; ``ids``: the topics' incarnations.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        starts = self._floors(committed, anew, ids)
        bounds = await self._tail.written_many(starts)
        # A floor after the end: the topic has lost messages, and is read whole.
        starts = {where: 0 if floor > bounds[where][1] else floor for where, floor in starts.items()}
        reach: dict[Partition, int] = {}
        memories = {where.partition: Memory() for where in starts}
        each = self._most // max(1, len(memories))
        recall = self._flow.recall
        answers: dict[Partition, int] = {}  # from which offset on answers are read
        for where in starts:
            if recall is not None and where.topic in self._flow.outputs:
                seen = self._seen.get((where, ids[where.topic]), 0)
                answers[where] = max(0, bounds[where][1] - each, seen)
        begins = {where: min(floor, answers.get(where, floor)) for where, floor in starts.items()}
        async for records in self._tail.read_many(begins, bounds):
            for record in records:
                where = Partition(record.topic, record.partition)
                if record.offset >= starts[where]:
                    memories[record.partition].learn(record)
                    if (source := source_of(record)) is not None:
                        reach[source[0]] = max(reach.get(source[0], 0), source[1] + 1)
                if recall is not None and where in answers and record.offset >= answers[where]:
                    recall(record)
        self._seen |= {(where, ids[where.topic]): end for where, (_, end) in bounds.items()}
        topics = {where.topic for where in starts}
        floors = {
            number: Floors({topic: bounds[Partition(topic, number)][1] for topic in topics})
            for number in memories
        }
        befores: dict[int, dict[str, int]] = {number: {} for number in memories}
        for where, start in starts.items():
            befores[where.partition][where.topic] = start
        return TakenOver(memories, floors, befores, reach)

    def _floors(
        self, committed: Mapping[Partition, Commit], anew: set[Partition], ids: Mapping[str, str]
    ) -> dict[Partition, int]:
        found: dict[Partition, int] = {}
        for number in {partition.partition for partition in committed}:
            known = [
                # Rows of a recreated topic may be any published rows, so the whole output is read. The same
                # applies without a commit, because Kafka deletes a topic's commits with the topic.
                {} if partition in anew else floors_of(commit.metadata, ids)
                for partition, commit in committed.items()
                if partition.partition == number
            ]
            for topic in (*self._flow.outputs, self._flow.dead_letter):
                found[Partition(topic, number)] = min(one.get(topic, 0) for one in known)
        return found
