"""What the poller does with a page: leaves out what is settled, cleans, names, sends, remembers."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from connectors.clickhouse.cursor import WindowStarts
from connectors.clickhouse.identity import CONTENT, Mark, content_of, mark_of, name_row
from connectors.clickhouse.published import Published
from connectors.clickhouse.quick import LARGEST, QuickRows
from connectors.clickhouse.source import SourceRow, moment
from streams.codec import decode, encode, encode_dead_letter, headers_of, traceparent_for
from streams.errors import RefusedError, RetryableError
from streams.messages import DeadLetter, Row
from streams.metrics import Series
from streams.ports import Lease, Outgoing, Partition, Sender, Tail
from streams.text import clean, why_skipped
from streams.topics import Topics, partition_of
from streams.trace import TRACEPARENT, about_row, trace_id_in

log = structlog.get_logger()

STEP = "poll"


class _New(NamedTuple):
    row: SourceRow
    content: bytes
    mark: Mark
    ordinal: int


class _Message(NamedTuple):
    outgoing: Outgoing
    mark: Mark
    waited: float


class Publisher:
    """Publishes rows of one source table for one time of ownership."""

    def __init__(
        self,
        source: str,
        topics: Topics,
        *,
        partitions: int,
        least_bytes: int,
        sender: Sender,
        lease: Lease,
        counts: Counter[str],
        waited: Series | None = None,
    ) -> None:
        """``source``: the table's name, for dead letters. ``least_bytes`` as in `why_skipped`. ``waited``
        is told how long each row was there before it was read.
        """
        self.published = Published()
        self.starts = WindowStarts({})
        self._source = source
        self._topics = topics
        self._partitions = partitions
        self._least_bytes = least_bytes
        self._sender = sender
        self._lease = lease
        self._counts = counts
        self._waited = waited
        self._one_by_one = False
        self._quick = QuickRows(topics.rows, partitions, least_bytes)

    @property
    def written(self) -> list[Partition]:
        """The partitions that the poller writes rows and dead letters to."""
        return [
            Partition(topic, number)
            for topic in (self._topics.rows, self._topics.dead_letter)
            for number in range(self._partitions)
        ]

    @property
    def fetched(self) -> list[Partition]:
        """Where rows lie that were fetched before there was any poller. Later ones are not the poller's."""
        return [Partition(self._topics.replay, number) for number in range(self._partitions)]

    async def learn(
        self,
        tail: Tail,
        starts: Mapping[Partition, int],
        begin: int | None,
        ahead: Sequence[Mark],
        now: int,
    ) -> None:
        """Forget everything; read what was published for rows from ``begin`` on.

        ``starts``: where on the topics to begin. ``ahead``: rows of the future that the cursor names.
        ``now``: the source's clock, microseconds since 1970.
        """
        self.published = Published()
        bounds = await tail.bounds_many(list(starts))
        self.starts = WindowStarts({where: end for where, (_, end) in bounds.items()})
        self.published.add(ahead)
        named = {(mark.content, mark.micros) for mark in ahead}
        async for records in tail.read_many(starts):
            found = []
            for record in records:
                mark = Mark.parse(record.header(CONTENT))
                if mark is None or (begin is not None and mark.micros < begin):
                    continue
                where = Partition(record.topic, record.partition)
                self.starts.add(where, record.offset, record.offset, mark.micros, now)
                if (mark.content, mark.micros) not in named:
                    found.append(mark)
            self.published.add(found)

    async def publish(self, page: Sequence[SourceRow], generation: int, now: int) -> None:
        """Settle every row of ``page``: published, dead-lettered, or skipped and counted.

        ``now``: the source's clock, microseconds since 1970.

        Raises:
            RetryableError: nobody knows what was written; learn, and publish the page again.
        """
        self._counts["read"] += len(page)
        with _collecting_later():
            new = self._new_of(page)
            if not new:
                return
            messages, skipped = self._messages(new)
        await self._send(messages, generation, now)
        self.published.add(skipped)

    def named(self, page: Sequence[SourceRow]) -> list[Outgoing]:
        """What `publish` would send for ``page``, which then counts as settled. For a backfill."""
        messages, skipped = self._messages(self._new_of(page))
        self.published.add([*skipped, *(one.mark for one in messages)])
        return [one.outgoing for one in messages]

    def _new_of(self, page: Sequence[SourceRow]) -> list[_New]:
        """The rows that are not settled. Equal rows stand together, so the n-th of them is known by count."""
        contents = [content_of(row) for row in page]
        marks = [mark_of(row, content) for row, content in zip(page, contents, strict=True)]
        short = [mark.content for mark in marks]
        known = self.published.counts(short)
        if not any(known) and len(set(short)) == len(short):
            return [
                _New(row, content, mark, 1) for row, content, mark in zip(page, contents, marks, strict=True)
            ]
        seen: Counter[int] = Counter()
        new = []
        for row, content, mark, count in zip(page, contents, marks, known, strict=True):
            seen[mark.content] += 1
            if seen[mark.content] > count:
                new.append(_New(row, content, mark, seen[mark.content]))
        return new

    def _messages(self, new: Sequence[_New]) -> tuple[list[_Message], list[Mark]]:
        taken = self.published.ids_taken([one.mark.id for one in new])
        here: set[int] = set()
        messages: list[_Message] = []
        skipped: list[Mark] = []
        same_id: list[Row] = []
        polled_at = datetime.now(UTC)
        read_at = polled_at.timestamp()
        for one, known in zip(new, taken, strict=True):
            other = bool(one.mark.id) and (known or one.mark.id in here)
            if not other and one.ordinal == 1:
                outgoing = self._quick.outgoing(one.row, one.mark, polled_at)
                if outgoing is not None:
                    here.add(one.mark.id)
                    waited = read_at - one.row.micros / 1e6
                    messages.append(_Message(outgoing, one.mark, waited))
                    continue
            raw = one.row.text
            text = clean((raw or b"").decode("utf-8", "replace"))
            why = why_skipped(raw, text, self._least_bytes)
            if why is not None:
                self._counts[f"skipped:{why}"] += 1
                skipped.append(one.mark)
                continue
            here.add(one.mark.id)
            # All of it is checked here: the name and the text hold something, the times are UTC.
            message = Row.made(
                row_id=name_row(one.row, one.content, one.ordinal, other),
                text=text,
                created_at=moment(one.row.micros),
                user_id=_str(one.row.user),
                session_id=_str(one.row.session),
                source_domain=_str(one.row.domain),
                polled_at=polled_at,
            )
            if other:
                same_id.append(message)
            waited = read_at - one.row.micros / 1e6
            messages.append(_Message(self._outgoing(message, one.mark), one.mark, waited))
        if same_id:
            self._counts["same_id"] += len(same_id)
            some = same_id[:5]
            log.warning(
                "rows with another row's id, both are kept",
                rows=[one.row_id for one in some],
                trace_ids=[trace_id_in(traceparent_for(one)) for one in some],
                count=len(same_id),
            )
        return messages, skipped

    def _outgoing(self, message: Row, mark: Mark) -> Outgoing:
        value = encode(message)
        if len(value) > LARGEST:
            return self._dead_letter(message, mark, len(value))
        headers = [*headers_of(message), (CONTENT, mark.header())]
        partition = partition_of(message.text, self._partitions)
        return Outgoing(self._topics.rows, partition, message.row_id.encode(), value, headers)

    def _dead_letter(self, message: Row, mark: Mark, size: int) -> Outgoing:
        # By reference: the bytes are in the source table, and the topic would not take them.
        letter = DeadLetter(
            row_id=message.row_id,
            step=STEP,
            reason="too-large",
            error=f"{size} bytes are too many for the topic; the row is in {self._source}, "
            f"id {message.row_id}, {message.created_at.isoformat()}",
            failed_at=datetime.now(UTC),
        )
        value, headers = encode_dead_letter(letter)
        headers += [(CONTENT, mark.header()), (TRACEPARENT, traceparent_for(message))]
        partition = partition_of(message.text, self._partitions)
        return Outgoing(self._topics.dead_letter, partition, message.row_id.encode(), value, headers)

    async def _send(self, messages: Sequence[_Message], generation: int, now: int) -> None:
        """Send, and remember what was confirmed.

        A refusal leaves open what else was written: then everything is learned anew, and the rows go
        one by one until the one that is refused has become a dead letter.
        """
        if not messages:
            return
        await self._lease.hold(generation)
        if not self._one_by_one:
            try:
                offsets = await self._sender.send_many([one.outgoing for one in messages])
            except RefusedError as error:
                self._one_by_one = True
                raise RetryableError(f"the topic refuses a row, so they go one by one: {error}") from error
            with _collecting_later():
                self._remember(messages, offsets, now)
            return
        for one in messages:
            await self._lease.hold(generation)
            try:
                offset = await self._sender.send(one.outgoing)
            except RefusedError as error:
                log.warning(
                    "row refused by the topic",
                    error=str(error),
                    **about_row(
                        (one.outgoing.key or b"").decode(), dict(one.outgoing.headers).get(TRACEPARENT)
                    ),
                )
                value = one.outgoing.value or b""
                letter = self._dead_letter(decode(Row, value), one.mark, len(value))
                one = one._replace(outgoing=letter)
                offset = await self._sender.send(letter)
            self._remember([one], [offset], now)
        self._one_by_one = False

    def _remember(self, sent: Sequence[_Message], offsets: Sequence[int], now: int) -> None:
        runs: dict[tuple[str, int], list[tuple[int, int]]] = {}
        for one, offset in zip(sent, offsets, strict=True):
            runs.setdefault(one.outgoing[:2], []).append((offset, one.mark.micros))
        if self._waited is not None:
            for one in sent:
                self._waited.observe(one.waited)
        for (topic, number), run in runs.items():
            self._counts["published" if topic == self._topics.rows else "dead_letters:too-large"] += len(run)
            newest = max(micros for _, micros in run)
            self.starts.add(Partition(topic, number), min(run)[0], max(run)[0], newest, now)
        self.published.add([one.mark for one in sent])


@contextlib.contextmanager
def _collecting_later() -> Iterator[None]:
    """Without the garbage collector, which would look through a page's many small objects again and again
    while they are made, for a quarter of the time. To be left without an await."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _str(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
