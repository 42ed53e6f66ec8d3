"""The sink: what the topics carry, each message once in its table.

It starts at its group's committed offsets and leaves out what the tables already hold, as an exact set
of (topic incarnation, partition, offset); it commits after the insert. A crash, a pause or a killed
insert anywhere between is made good by the next look at the tables.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, INSERT_SECONDS, LABELED
from connectors.clickhouse.sink.batch import Batch, Refused, bare_batch, dead_letter_batch, to_batch
from connectors.clickhouse.sink.batcher import Batcher
from connectors.clickhouse.sink.dead_letters import CUT, DeadLetters
from connectors.clickhouse.sink.inserter import Inserter, SplitError, StuckError, while_ours
from connectors.clickhouse.sink.lost_messages import CutError, LostMessages, Report, no_report
from connectors.clickhouse.sink.stored_offsets import OffsetSet
from streams.core.context import TRACEPARENT, about_row
from streams.core.messages import Augmented, HumanLabel
from streams.core.records import Commit, Partition, Record, known_in, made_anew
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.observability.store_spans import StoreSpans
from streams.ports.kafka import GroupInput, Lease, Sender, Tail, TopicIds

log = structlog.get_logger()

_FOREVER = 2**62


class _MadeAnewError(Exception):
    """A topic is no longer the one that these records were read from."""

    def __init__(self, topics: frozenset[str]) -> None:
        super().__init__(", ".join(sorted(topics)))
        self.topics = topics


class Sink:
    """Stores what the labeled, shadow, augmented and dead-letter topics carry.

    ``counts``: `stored:TABLE` (rows), `inserts`, `batches`, `already_stored`, `retries`,
    `dead_letters` and `dead_letters:REASON`, `dead_letters_known` (sent before a crash), `unstorable`,
    `unwanted` (of a replay that was dropped), `erased`.
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
        report: Report = no_report,
        unwanted: Callable[[Record], bool] | None = None,
        erased: Erased = nothing_erased,
        observe: Callable[[str, Batch], None] = lambda table, batch: None,
        spans: StoreSpans | None = None,
    ) -> None:
        """``writer``: a client for the inserts that gives up soon after INSERT_SECONDS; see `writer_for`.

        ``report`` is told what retention took unread, as `LossReporter.report`.
        ``unwanted``: whether a record belongs to a replay that was dropped: its rows must not come back.
        ``erased``: what must not be stored again.
        ``observe`` is given each batch that was inserted, with its table.
        ``spans``: where traces are exported.
        """
        self._unwanted = unwanted
        self._observe = observe
        self._spans = spans
        self.counts: Counter[str] = Counter()
        self._topics = topics
        self._topic_ids = topic_ids
        self._lease = lease
        self._inserter = Inserter(
            client,
            writer or client,
            database,
            lease,
            owner=topics.groups.sink.name,
            counts=self.counts,
            erased=erased,
        )
        self._letters = DeadLetters(topics.dead_letter, sender, tail, lease, self.counts)
        self._lost = LostMessages(tail, lease, report)
        self._tables = {
            topics.labeled: LABELED,
            topics.shadow: LABELED,
            topics.augmented: AUGMENTED,
            topics.dead_letter: DEAD_LETTERS,
        }
        self._generation = -1
        self._ids: dict[str, UUID] = {}
        self._stored: dict[Partition, OffsetSet] = {}
        # Of logs that have lost their end: what the table holds below this offset are other messages.
        self._cut: dict[Partition, int] = {}
        self._rewound: dict[Partition, int] = {}  # where to go on with them
        self._intake: Batcher | None = None
        self._capped: dict[Partition, int] = {}  # where to commit once their dead letters are confirmed

    @property
    def waiting(self) -> int:
        """Records that were read and are not yet committed: the consumer's position is ahead by these."""
        return 0 if self._intake is None else len(self._intake)

    async def run(self, source: GroupInput, committed: Mapping[Partition, Commit], generation: int) -> None:
        """Store until the group takes the partitions back.

        ``committed``: the partitions of this time of ownership with the group's positions, -1 for none.

        Raises:
            LeaseLostError: they are no longer ours.
        """
        if self._intake is None or self._intake.source is not source:
            self._intake = Batcher(source)
        intake, positions = self._intake, dict(committed)
        try:
            await self._begin(intake, positions, generation)
            while True:
                await self._pass_over(intake, positions, generation)
                batch = await intake.batch()
                try:
                    if not batch:
                        await self._lost.look()
                    reached = await self.store(batch) if batch else self._caught_up()
                except CutError as error:
                    log.warning("sink_begins_again", reason=f"a log ends before what was read: {error}")
                    await self._stop_reading(intake, positions)
                    await self._begin(intake, positions, generation)
                    continue
                except _MadeAnewError as made_anew:
                    await self._stop_reading(intake, positions)
                    positions |= {p: Commit(-1) for p in positions if p.topic in made_anew.topics}
                    self._from_the_beginning(intake, {p for p in positions if p.topic in made_anew.topics})
                    await self._begin(intake, positions, generation)
                    continue
                except SplitError as error:
                    log.info("smaller_batches", rows=len(batch), reason=str(error)[:300])
                    intake.smaller(len(batch))
                    continue
                except StuckError as error:
                    log.warning("rows_fail_alone", rows=len(batch), reason=str(error)[:300])
                    continue
                await while_ours(
                    self._lease,
                    generation,
                    "Kafka",
                    lambda reached=reached: source.commit(reached),  # type: ignore[misc]
                )
                positions |= reached
                intake.done(len(batch))
        finally:
            await intake.stop()
            self._letters.stop()
            self._capped = {}

    async def _stop_reading(self, intake: Batcher, positions: dict[Partition, Commit]) -> None:
        """Before the sink begins again: nothing may be on its way. Advances ``positions``."""
        await intake.stop()
        await self._letters.over()
        positions |= self._caught_up()

    def _caught_up(self) -> dict[Partition, Commit]:
        """What may be committed now, because its dead letters are confirmed."""
        free = [partition for partition in self._capped if self._letters.waiting(partition) is None]
        ends = {partition: self._capped.pop(partition) for partition in free}
        return {partition: Commit(end, self._metadata(partition, end)) for partition, end in ends.items()}

    async def _pass_over(self, intake: Batcher, positions: dict[Partition, Commit], generation: int) -> None:
        """Commit behind what is lost, where nothing comes behind it: who asks what is not stored yet must
        know that it is not on its way."""
        if not self._lost.passed:
            return
        held = intake.ends.keys() | self._capped.keys()
        passed = {
            partition: Commit(at, self._metadata(partition, at))
            for partition, at in self._lost.passed.items()
            if partition not in held
        }
        await while_ours(self._lease, generation, "Kafka", lambda: intake.source.commit(passed))
        positions |= passed
        for partition in passed:
            del self._lost.passed[partition]

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
        self._ids = await self._topic_ids_of(names)
        anew = frozenset(
            partition
            for partition, commit in committed.items()
            if made_anew(commit.metadata, partition.topic, str(self._ids[partition.topic]))
        )
        starts = {p: Commit(0) if p in anew else commit for p, commit in committed.items()}
        self._cut = {p: found for p, c in starts.items() if (found := known_in(c.metadata).get(CUT, 0))}
        await self._find_cut(starts, generation)
        self._stored = {}
        for topic in sorted({partition.topic for partition in starts}):
            spans = {
                partition.partition: (max(commit.offset, 0), _FOREVER)
                for partition, commit in starts.items()
                if partition.topic == topic
            }
            stored = await self._inserter.stored(self._tables[topic], self._ids[topic], spans, generation)
            self._stored |= {Partition(topic, number): offsets for number, offsets in stored.items()}
        for partition, end in self._rewound.items():
            # What the table holds of these offsets are the messages that are gone.
            self._cut[partition] = max(self._cut[partition], self._stored[partition].end, end)
        for partition, cut in self._cut.items():
            self._stored[partition] = self._stored[partition].since(cut)
        await self._letters.learn(starts, self._ids, generation)
        # Without a commit, what is stored was read: the group was idle until Kafka forgot where it was.
        owed = {p: c if c.offset >= 0 else Commit(self._stored[p].end) for p, c in starts.items()}
        held = self._intake.ends if self._intake is not None else {}
        kept = held.keys() - anew - self._rewound.keys()
        owed |= {p: Commit(held[p], c.metadata) for p, c in owed.items() if p in kept}
        await self._lost.begin(owed, self._ids, generation)
        log.info("sink_assigned", partitions=len(starts), already_stored=sum(map(len, self._stored.values())))
        return anew

    async def store(self, records: Sequence[Record]) -> dict[Partition, Commit]:
        """Store ``records``, in order of offset within each partition; returns what may be committed.

        When it returns, each of them is in its table, or on the dead-letter topic. Those behind which the
        dead-letter partition cannot be written wait for that: nothing behind them may be committed.

        Raises:
            LeaseLostError: the partitions are no longer ours.
            CutError: a log has lost its end; take the partitions over again.
            SplitError, StuckError: give fewer, or the same again with others; see `Inserter.insert`.
            With each of these any part of them may be stored.
        """
        by_partition = _by_partition(records)
        await self._compare_ids({partition.topic for partition in by_partition})
        await self._lost.refuse_cut(by_partition)
        for topic in dict.fromkeys(partition.topic for partition in by_partition):
            mine = {partition: found for partition, found in by_partition.items() if partition.topic == topic}
            new: list[Record] = []
            for partition, found in mine.items():
                stored = self._stored[partition]
                behind = found[0].offset < stored.end
                new += [one for one in found if one.offset not in stored] if behind else found
            self.counts["already_stored"] += sum(map(len, mine.values())) - len(new)
            if self._unwanted is not None:
                wanted = [one for one in new if not self._unwanted(one)]
                self.counts["unwanted"] += len(new) - len(wanted)
                new = wanted
            try:
                if new:
                    await self._store_part(topic, new)
            except (SplitError, StuckError):
                await self._look_again(topic, mine)
                raise
            # At once: should the next topic's rows come back in smaller batches, these are known.
            for partition, found in mine.items():
                self._stored[partition] |= _offsets(found)
        await self._lost.check(by_partition)
        self.counts["batches"] += 1
        positions: dict[Partition, Commit] = {}
        for partition, found in by_partition.items():
            position = found[-1].offset + 1
            self._capped.pop(partition, None)
            if (waiting := self._letters.waiting(partition)) is not None:
                self._capped[partition], position = position, waiting
            positions[partition] = Commit(position, self._metadata(partition, position))
        return positions | self._caught_up()

    def _metadata(self, partition: Partition, position: int) -> str:
        reached, cut = self._lost.reached(partition), self._cut.get(partition, 0)
        return self._letters.metadata(partition, position, reached, cut)

    async def _find_cut(self, starts: dict[Partition, Commit], generation: int) -> None:
        """Go back to the end of those logs that end before ``starts``, which are changed."""
        committed = {partition: commit.offset for partition, commit in starts.items() if commit.offset > 0}
        self._rewound = await self._lost.ends(committed, generation)
        for partition, end in self._rewound.items():
            commit = starts[partition]
            await self._lost.cut(partition, end, commit, self._ids[partition.topic], generation)
            self._cut[partition] = max(self._cut.get(partition, 0), commit.offset)
            starts[partition] = commit._replace(offset=end)

    async def _look_again(self, topic: str, records: Mapping[Partition, Sequence[Record]]) -> None:
        """Learn what the table holds of ``records`` after an insert that went wrong."""
        spans = {p.partition: (found[0].offset, found[-1].offset + 1) for p, found in records.items()}
        stored = await self._inserter.stored(self._tables[topic], self._ids[topic], spans, self._generation)
        for number, offsets in stored.items():
            self._stored[Partition(topic, number)] |= offsets

    async def _store_part(self, topic: str, records: list[Record]) -> None:
        table, topic_id = self._tables[topic], self._ids[topic]
        began = time.time_ns()
        if table == DEAD_LETTERS:
            batch = await asyncio.to_thread(dead_letter_batch, records, topic_id)
            refused = await self._inserter.insert(table, batch, topic_id, self._generation)
            if refused:
                await self._store_bare(refused, topic_id)
            if self._spans is not None:
                self._spans.stored(table, batch.records, began, always=True)
            return
        message = HumanLabel if table == LABELED else Augmented
        batch, undecodable = await asyncio.to_thread(to_batch, message, records, topic_id)
        refused = await self._inserter.insert(table, batch, topic_id, self._generation)
        self._observe(table, batch)
        given_up = [*undecodable, *refused]
        if self._spans is not None:
            gone = {one.record.source for one in refused}
            kept = [one for one in batch.records if one.source not in gone] if gone else batch.records
            self._spans.stored(table, kept, began)
            given_up = [
                _traced(one, self._spans.refused(table, one.record, one.reason, began)) for one in given_up
            ]
        if given_up:
            await self._letters.send(given_up, self._generation)

    async def _store_bare(self, refused: list[Refused], topic_id: UUID) -> None:
        """There is no dead letter of a dead letter, or it would go round for ever: what the table refuses
        is stored with its bytes and its place alone, and if not even that works, stays on the topic."""
        batch: Batch = bare_batch(refused, topic_id)
        for one in await self._inserter.insert(DEAD_LETTERS, batch, topic_id, self._generation):
            self.counts["unstorable"] += 1
            about = about_row(one.row_id, one.record.header(TRACEPARENT))
            log.error("dead_letter_unstorable", source=one.record.source, error=one.error, **about)

    async def _begin(self, intake: Batcher, positions: dict[Partition, Commit], generation: int) -> None:
        anew = await self.assigned(positions, generation)
        if anew:
            positions |= {partition: Commit(-1) for partition in anew}
            self._from_the_beginning(intake, anew)
        if self._rewound:
            rewound = {p: Commit(end, self._metadata(p, end)) for p, end in self._rewound.items()}
            await while_ours(self._lease, generation, "Kafka", lambda: intake.source.commit(rewound))
            positions |= rewound
            intake.drop(lambda record: Partition(record.topic, record.partition) in rewound)
            intake.source.seek(self._rewound)
        intake.start()

    async def close(self) -> None:
        """Close what was opened for single hosts."""
        await self._inserter.close()

    def _from_the_beginning(self, intake: Batcher, partitions: Collection[Partition]) -> None:
        """Read ``partitions`` from offset 0, and forget what was read of them: their topic was made anew."""
        log.warning("topic_made_anew", topics=sorted({partition.topic for partition in partitions}))
        intake.drop(lambda record: Partition(record.topic, record.partition) in partitions)
        intake.source.seek(dict.fromkeys(partitions, 0))

    async def _compare_ids(self, topics: Collection[str]) -> None:
        """Raise _MadeAnewError if any of ``topics`` is no longer the one that we began with.

        Asked after the records were read and before they are stored. Less often would not do: a topic made
        anew that has outgrown our position gives records which nothing else tells from the old one's.
        """
        now = await self._topic_ids_of(topics)
        other = frozenset(name for name, found in now.items() if found != self._ids[name])
        if other:
            raise _MadeAnewError(other)

    async def _topic_ids_of(self, topics: Collection[str]) -> dict[str, UUID]:
        names = sorted(topics)
        return await while_ours(
            self._lease, self._generation, "Kafka", lambda: self._topic_ids.topic_ids(names)
        )


def _traced(refused: Refused, traceparent: bytes) -> Refused:
    headers = [one for one in refused.record.headers if one[0] != TRACEPARENT]
    record = refused.record._replace(headers=(*headers, (TRACEPARENT, traceparent)))
    return replace(refused, record=record)


def writer_for(settings: Settings, reader: ClickHouseClient) -> ClickHouseClient:
    """The client for the inserts: it gives up before the group could have given the partitions away. It stays
    on the host of ``reader``, which looks at what became of them there.
    """
    return ClickHouseClient.from_settings(
        settings, connect_seconds=2.0, answer_seconds=INSERT_SECONDS + 1.0, hosts=reader.hosts
    )


def _by_partition(records: Sequence[Record]) -> dict[Partition, list[Record]]:
    """In the order given. They come in runs of one partition, so that few are looked up."""
    found: dict[Partition, list[Record]] = {}
    topic, number, mine = "", -1, list[Record]()
    for record in records:
        if record.partition != number or record.topic != topic:
            topic, number = record.topic, record.partition
            mine = found.setdefault(Partition(topic, number), [])
        mine.append(record)
    return found


def _offsets(records: Sequence[Record]) -> OffsetSet:
    """The offsets of one partition's records, which ascend; mostly without a gap."""
    first, last = records[0].offset, records[-1].offset
    if last - first + 1 == len(records):
        return OffsetSet([(first, last + 1)])
    return OffsetSet.of(record.offset for record in records)
