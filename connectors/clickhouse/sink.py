"""The sink: what the topics carry, each message once in its table.

It starts at its group's committed offsets and leaves out what the tables already hold, as an exact set
of (topic incarnation, partition, offset); it commits after the insert. A crash, a pause or a killed
insert anywhere between is made good by the next look at the tables.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

import structlog

from connectors.clickhouse.batch import Batch, Refused, bare_batch, dead_letter_batch, to_batch
from connectors.clickhouse.client import ClickHouseClient
from connectors.clickhouse.ddl import AUGMENTED, DEAD_LETTERS, LABELED
from connectors.clickhouse.exact import OffsetSet
from connectors.clickhouse.insert import INSERT_SECONDS, Inserter, while_ours
from connectors.clickhouse.letters import TOPIC_ID, DeadLetters, known_in
from streams.errors import LeaseLostError, RetryableError
from streams.messages import Augmented, Labeled
from streams.ports import Commit, GroupInput, Lease, Partition, Record, Sender, Tail, TopicIds
from streams.settings import Settings
from streams.topics import Topics, groups

log = structlog.get_logger()

BATCH_ROWS = 50_000
BATCH_BYTES = 32_000_000
# From the first arrival to the insert when traffic is light. With the insert itself well below 1 s.
GATHER_SECONDS = 0.3
# So many at a time, that their bytes are known before the next are asked for.
_FETCH = 5_000
_FOREVER = 2**62
# How often a running sink asks whether its topics are still the same. A topic made anew below our
# feet shows by itself, its offsets begin again; this is for one that has outgrown our position.
_IDS_SECONDS = 5.0


class _MadeAnewError(Exception):
    """A topic is no longer the one that these records were read from."""

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(topics)))
        self.topics = topics


class Sink:
    """Stores what the labeled, shadow, augmented and dead-letter topics carry.

    ``counts``: `stored:TABLE` (rows), `inserts`, `batches`, `already_stored`, `retries`,
    `dead_letters` and `dead_letters:REASON`, `dead_letters_known` (sent before a crash), `unstorable`.
    """

    def __init__(
        self,
        client: ClickHouseClient,
        database: str,
        topics: Topics,
        *,
        sender: Sender,
        tail: Tail,
        topic_ids: TopicIds,
        lease: Lease,
        writer: ClickHouseClient | None = None,
    ) -> None:
        """``writer``: a client for the inserts that gives up soon after INSERT_SECONDS; see `writer_for`."""
        self.counts: Counter[str] = Counter()
        self._topics = topics
        self._topic_ids = topic_ids
        self._lease = lease
        self._inserter = Inserter(
            client,
            writer or client,
            database,
            lease,
            owner=groups(topics.prefix)["sink"],
            counts=self.counts,
        )
        self._letters = DeadLetters(topics.dead_letter, sender, tail, lease, self.counts)
        self._tables = {
            topics.labeled: LABELED,
            topics.shadow: LABELED,
            topics.augmented: AUGMENTED,
            topics.dead_letter: DEAD_LETTERS,
        }
        self._generation = -1
        self._ids: dict[str, UUID] = {}
        self._ids_at = 0.0
        self._stored: dict[Partition, OffsetSet] = {}
        self._next: dict[Partition, int] = {}
        self._source: GroupInput | None = None
        self._in_hand: list[Record] = []

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return tuple(self._tables)

    async def run(self, source: GroupInput, committed: Mapping[Partition, Commit], generation: int) -> None:
        """Store until the group takes the partitions back.

        ``committed``: the partitions of this time of ownership with the group's positions, -1 for none.

        Raises:
            LeaseLostError: they are no longer ours.
        """
        if source is not self._source:
            self._source, self._in_hand = source, []
        positions = dict(committed)
        await self._begin(source, positions, generation)
        while True:
            await self._gather(source)
            try:
                reached = await self.store(self._in_hand)
            except _MadeAnewError as made_anew:
                log.warning("topic_made_anew", topics=sorted(made_anew.topics))
                self._in_hand = [one for one in self._in_hand if one.topic not in made_anew.topics]
                positions |= {p: Commit(-1) for p in positions if p.topic in made_anew.topics}
                source.seek({p: 0 for p in positions if p.topic in made_anew.topics})
                await self._begin(source, positions, generation)
                continue
            await while_ours(
                self._lease,
                generation,
                "Kafka",
                lambda reached=reached: source.commit(reached),  # type: ignore[misc]
            )
            positions |= reached
            self._in_hand = []

    async def assigned(self, committed: Mapping[Partition, Commit], generation: int) -> frozenset[Partition]:
        """Learn what was already done for these partitions. Returns those that must be read from offset 0,
        because their topic was deleted and made again since the commit.

        Raises:
            LeaseLostError: they are no longer ours.
        """
        await self._lease.hold(generation)
        self._generation = generation
        await self._inserter.end_others(generation)
        names = {partition.topic for partition in committed} | {self._topics.dead_letter}
        self._ids = {name: await self._topic_id(name) for name in sorted(names)}
        self._ids_at = time.monotonic()
        anew = frozenset(
            partition
            for partition, commit in committed.items()
            if known_in(commit.metadata).get(TOPIC_ID, own := str(self._ids[partition.topic])) != own
        )
        starts = {p: Commit(0) if p in anew else commit for p, commit in committed.items()}
        self._stored = {}
        for topic in sorted({partition.topic for partition in starts}):
            spans = {
                partition.partition: (max(commit.offset, 0), _FOREVER)
                for partition, commit in starts.items()
                if partition.topic == topic
            }
            stored = await self._inserter.stored(self._tables[topic], self._ids[topic], spans, generation)
            self._stored |= {Partition(topic, number): offsets for number, offsets in stored.items()}
        await self._letters.learn(starts, self._ids, generation)
        self._next = {}
        log.info("sink_assigned", partitions=len(starts), already_stored=sum(map(len, self._stored.values())))
        return anew

    async def store(self, records: Sequence[Record]) -> dict[Partition, Commit]:
        """Store ``records``, in order of offset within each partition; returns what may be committed.

        When it returns, each of them is in its table, or on the dead-letter topic.

        Raises:
            LeaseLostError: the partitions are no longer ours; any part may be stored.
        """
        await self._compare_ids(records)
        by_topic: dict[str, list[Record]] = {}
        for record in records:
            if record.offset in self._stored[Partition(record.topic, record.partition)]:
                self.counts["already_stored"] += 1
            else:
                by_topic.setdefault(record.topic, []).append(record)
        for topic, new in by_topic.items():
            for part in _parts(new):
                await self._store_part(topic, part)
        self.counts["batches"] += 1
        positions: dict[Partition, Commit] = {}
        for partition, offsets in _offsets(records).items():
            self._stored[partition] |= OffsetSet.of(offsets)
            self._next[partition] = max(offsets) + 1
            metadata = self._letters.metadata(partition, self._next[partition])
            positions[partition] = Commit(self._next[partition], metadata)
        return positions

    async def _store_part(self, topic: str, records: list[Record]) -> None:
        table, topic_id = self._tables[topic], self._ids[topic]
        if table == DEAD_LETTERS:
            batch = await asyncio.to_thread(dead_letter_batch, records, topic_id)
            refused = await self._inserter.insert(table, batch, topic_id, self._generation)
            if refused:
                await self._store_bare(refused, topic_id)
            return
        message = Labeled if table == LABELED else Augmented
        batch, undecodable = await asyncio.to_thread(to_batch, message, records, topic_id)
        refused = await self._inserter.insert(table, batch, topic_id, self._generation)
        if undecodable or refused:
            await self._letters.send([*undecodable, *refused], self._generation)

    async def _store_bare(self, refused: list[Refused], topic_id: UUID) -> None:
        """There is no dead letter of a dead letter, or it would go round for ever: what the table refuses
        is stored with its bytes and its place alone, and if not even that works, stays on the topic."""
        batch: Batch = bare_batch(refused, topic_id)
        for one in await self._inserter.insert(DEAD_LETTERS, batch, topic_id, self._generation):
            self.counts["unstorable"] += 1
            log.error("dead_letter_unstorable", source=one.record.source, error=one.error)

    async def _begin(self, source: GroupInput, positions: dict[Partition, Commit], generation: int) -> None:
        anew = await self.assigned(positions, generation)
        if anew:
            log.warning("topic_made_anew", topics=sorted({partition.topic for partition in anew}))
            self._in_hand = [one for one in self._in_hand if Partition(one.topic, one.partition) not in anew]
            positions |= {partition: Commit(-1) for partition in anew}
            source.seek(dict.fromkeys(anew, 0))

    async def _gather(self, source: GroupInput) -> None:
        """Fill `_in_hand`: what comes within GATHER_SECONDS of the first, at most a batch."""
        deadline = time.monotonic() + GATHER_SECONDS if self._in_hand else None
        size = sum(len(one.value or b"") for one in self._in_hand)
        while len(self._in_hand) < BATCH_ROWS and size < BATCH_BYTES:
            left = 1.0 if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return
            try:
                found = await source.fetch(seconds=left, most=min(_FETCH, BATCH_ROWS - len(self._in_hand)))
            except LeaseLostError:
                raise
            except RetryableError as error:
                if self._in_hand:
                    return
                log.warning("waiting for Kafka", reason=str(error))
                await asyncio.sleep(1.0)
                continue
            if found and deadline is None:
                deadline = time.monotonic() + GATHER_SECONDS
            self._in_hand += found
            size += sum(len(one.value or b"") for one in found)

    async def _compare_ids(self, records: Sequence[Record]) -> None:
        """Raise _MadeAnewError if a topic is no longer the one that we began with."""
        back = any(
            min(offsets) < self._next.get(partition, 0) for partition, offsets in _offsets(records).items()
        )
        if not back and time.monotonic() - self._ids_at < _IDS_SECONDS:
            return
        names = {record.topic for record in records}
        now = {name: await self._topic_id(name) for name in sorted(names)}
        self._ids_at = time.monotonic()
        other = frozenset(name for name in names if now[name] != self._ids[name])
        if other:
            raise _MadeAnewError(other)

    async def _topic_id(self, topic: str) -> UUID:
        async def ask() -> UUID:
            return await self._topic_ids.topic_id(topic)

        return await while_ours(self._lease, self._generation, "Kafka", ask)


def writer_for(settings: Settings) -> ClickHouseClient:
    """The client for the inserts: it gives up before the group could have given the partitions away."""
    return ClickHouseClient.from_settings(settings, connect_seconds=2.0, answer_seconds=INSERT_SECONDS + 1.0)


def _offsets(records: Sequence[Record]) -> dict[Partition, list[int]]:
    offsets: dict[Partition, list[int]] = {}
    for record in records:
        offsets.setdefault(Partition(record.topic, record.partition), []).append(record.offset)
    return offsets


def _parts(records: list[Record]) -> Iterator[list[Record]]:
    """``records`` in inserts of at most BATCH_ROWS and about BATCH_BYTES."""
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value or b"")
        if len(part) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
