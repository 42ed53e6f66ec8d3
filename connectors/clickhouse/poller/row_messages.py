"""From source rows to messages: which rows are new, their ids, and which are not worth a label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np
import structlog

from connectors.clickhouse.poller.plain_rows import QuickRows
from connectors.clickhouse.poller.published_rows import Published
from connectors.clickhouse.poller.row_identity import (
    CONTENT,
    Mark,
    RowDigests,
    mark_of,
    name_row,
    number_of,
)
from connectors.clickhouse.source.table import SourceRow
from streams.core.codec import CREATED_AT, encode, encode_dead_letter, headers_of, traceparent_for
from streams.core.context import TRACEPARENT, trace_id_in, traceparent_of
from streams.core.messages import DeadLetter, Row
from streams.core.records import Outgoing
from streams.core.text import clean, why_skipped
from streams.core.times import moment
from streams.core.topics import VALUE_BYTES, Topics, partition_of
from streams.privacy import door as privacy
from streams.privacy.door import Door, PlainFields

log = structlog.get_logger()

STEP = "poll"


class NewRow(NamedTuple):
    """A row that is not published, and its number among equal rows. ``failed``: it cannot be masked, and
    nothing of it is published.
    """

    row: SourceRow
    content: bytes
    mark: Mark
    ordinal: int
    failed: bool = False


class Alias(NamedTuple):
    """What a row is known by under another generation's digest: its content's 64 bits, and its id."""

    content: int
    row_id: str


class NamedRow(NamedTuple):
    """A plain row that is to get a message. ``other``: another row stands under its id. ``text``: clean.
    ``aliases``: where they are asked for.
    """

    new: NewRow
    other: bool
    row_id: str
    text: str
    aliases: Sequence[Alias]

    @property
    def ids(self) -> list[str]:
        """Those under which it may have been published."""
        return [self.row_id, *(alias.row_id for alias in self.aliases)]

    @property
    def contents(self) -> tuple[int, ...]:
        """The 64 bits of its digests, with the key that is used now and with every other one."""
        return (self.new.mark.content, *(alias.content for alias in self.aliases))


class NamedMessage(NamedTuple):
    """The message of a row. ``waited``: seconds from the row's time to its reading."""

    outgoing: Outgoing
    mark: Mark
    waited: float


class Namer:
    """Makes the messages of one source table's rows."""

    def __init__(
        self,
        source: str,
        topics: Topics,
        *,
        partitions: int,
        least_bytes: int,
        counts: Counter[str],
        digests: RowDigests | None = None,
        door: Door | None = None,
        aliases: bool = False,
    ) -> None:
        """``source``: the table's name, for dead letters. ``least_bytes`` as in `why_skipped`. ``door``: what
        masks the rows. ``aliases``: whether named rows have them.
        """
        # What is masked was judged by its plain text already.
        least = least_bytes if door is None else 0
        self.quick = QuickRows(topics.rows, partitions, least)
        self.door = door
        self._digests = digests or RowDigests()
        self._aliases = self._digests.others if aliases else []
        self._source = source
        self._topics = topics
        self._partitions = partitions
        self._least_bytes = least_bytes
        self._counts = counts

    def new_of(self, page: Sequence[SourceRow], published: Published) -> list[NewRow]:
        """The rows that are not published. Equal rows come together, so the n-th of them is known by
        counting.
        """
        digests = self._digests
        contents = [digests.content(row) for row in page]
        marks = [
            mark_of(row, content, digests.generation) for row, content in zip(page, contents, strict=True)
        ]
        short = [mark.content for mark in marks]
        counts = published.counts(short)
        there = published.generations()
        for generation in digests.others:
            if generation in there:
                others = [number_of(digests.content_under(generation, row)) for row in page]
                counts = counts + published.counts(np.array(others, np.uint64))
        known = counts.tolist()
        if not any(known) and len(set(short)) == len(short):
            return [
                NewRow(row, content, mark, 1)
                for row, content, mark in zip(page, contents, marks, strict=True)
            ]
        seen: Counter[int] = Counter()
        new = []
        for row, content, mark, count in zip(page, contents, marks, known, strict=True):
            seen[mark.content] += 1
            if seen[mark.content] > count:
                new.append(NewRow(row, content, mark, seen[mark.content]))
        return new

    def ids_of(self, one: NewRow) -> list[str]:
        """The ids under which the plain row ``one`` may have been published, with any key."""
        return self._digests.ids_of(one.row, one.ordinal)

    async def masked(self, new: Sequence[NewRow]) -> tuple[list[NewRow], list[Mark]]:
        """``new`` as it may be published, and the marks of rows without a message; all of it if nothing is
        masked.

        Raises:
            UnavailableError: nothing can be masked now.
        """
        if self.door is None:
            return list(new), []
        kept: list[NewRow] = []
        fields: list[PlainFields] = []
        skipped: list[Mark] = []
        for one in new:
            raw = one.row.text
            text = clean((raw or b"").decode("utf-8", "replace"))
            if self._is_skipped(one, raw, text):
                skipped.append(one.mark._replace(id=0))
                continue
            kept.append(one)
            fields.append(PlainFields(text, *map(_str, one.row[4:])))
        found = await self.door.fields(fields)
        return [
            one._replace(failed=True) if safe is None else one._replace(row=_with(one.row, safe))
            for one, safe in zip(kept, found, strict=True)
        ], skipped

    def _is_skipped(self, one: NewRow, raw: bytes | None, text: str) -> bool:
        why = why_skipped(raw, text, self._least_bytes)
        if why is not None:
            self._counts[f"skipped:{why}"] += 1
        return why is not None

    def named(self, new: Sequence[NewRow], published: Published) -> tuple[list[NamedRow], list[Mark]]:
        """The plain rows of ``new`` as they are called, and the marks of those that get no message."""
        taken = published.ids_taken([one.mark.id for one in new]).tolist()
        here: set[int] = set()
        named: list[NamedRow] = []
        skipped: list[Mark] = []
        for one, known in zip(new, taken, strict=True):
            text = clean((one.row.text or b"").decode("utf-8", "replace"))
            if self._is_skipped(one, one.row.text, text):
                skipped.append(one.mark._replace(id=0))  # without a message it has not taken its id
                continue
            other = bool(one.mark.id) and (known or one.mark.id in here)
            here.add(one.mark.id)
            row_id = name_row(one.row, one.content, one.ordinal, other)
            named.append(NamedRow(one, other, row_id, text, self._aliases_of(one, other)))
        return named, skipped

    async def messages_of(self, named: Sequence[NamedRow]) -> list[NamedMessage]:
        """The messages of ``named``, masked. Raises as `masked`."""
        masked, _ = await self.masked([one.new for one in named])
        polled_at = datetime.now(UTC)
        found = (self._message(new, one.other, polled_at) for new, one in zip(masked, named, strict=True))
        return [one for one in found if one is not None]

    def messages(self, new: Sequence[NewRow], published: Published) -> tuple[list[NamedMessage], list[Mark]]:
        """The messages of ``new``, and the marks of rows without a message."""
        taken = published.ids_taken([one.mark.id for one in new]).tolist()
        here: set[int] = set()
        messages: list[NamedMessage] = []
        skipped: list[Mark] = []
        same_id: list[Outgoing] = []
        polled_at = datetime.now(UTC)
        for one, known in zip(new, taken, strict=True):
            other = bool(one.mark.id) and (known or one.mark.id in here)
            message = self._message(one, other, polled_at)
            if message is None:
                skipped.append(one.mark._replace(id=0))  # without a message it has not taken its id
                continue
            here.add(one.mark.id)
            if other and not one.failed:
                same_id.append(message.outgoing)
            messages.append(message)
        if same_id:
            self._counts["same_id"] += len(same_id)
            some = same_id[:5]
            log.warning(
                "rows with another row's id, both are kept",
                rows=[(one.key or b"").decode() for one in some],
                trace_ids=[trace_id_in(dict(one.headers)[TRACEPARENT]) for one in some],
                count=len(same_id),
            )
        return messages, skipped

    def _message(self, one: NewRow, other: bool, polled_at: datetime) -> NamedMessage | None:
        """The message of a row, masked if that is asked for; None if it is skipped."""
        waited = polled_at.timestamp() - one.row.micros / 1e6
        if one.failed:
            return NamedMessage(self._unmasked(one, other), one.mark, waited)
        if not other and one.ordinal == 1:
            outgoing = self.quick.outgoing(one.row, one.content, one.mark, polled_at)
            if outgoing is not None:
                return NamedMessage(outgoing, one.mark, waited)
        raw = one.row.text
        text = clean((raw or b"").decode("utf-8", "replace"))
        if self.door is None and self._is_skipped(one, raw, text):
            return None
        # No validation is needed: the id and the text are not empty, the times are UTC.
        message = Row.made(
            row_id=name_row(one.row, one.content, one.ordinal, other),
            text=text,
            created_at=moment(one.row.micros),
            user_id=_str(one.row.user),
            session_id=_str(one.row.session),
            source_domain=_str(one.row.domain),
            polled_at=polled_at,
        )
        return NamedMessage(self._outgoing(message, one.mark), one.mark, waited)

    def _aliases_of(self, one: NewRow, other: bool) -> list[Alias]:
        found = [self._digests.content_under(each, one.row) for each in self._aliases]
        return [
            Alias(number_of(content), name_row(one.row, content, one.ordinal, other)) for content in found
        ]

    def _unmasked(self, one: NewRow, other: bool) -> Outgoing:
        """The dead letter of a row that cannot be masked. Only its place is told."""
        row_id, at = name_row(one.row, one.content, one.ordinal, other), moment(one.row.micros)
        self._counts[f"dead_letters:{privacy.REASON}"] += 1
        letter = DeadLetter(
            row_id=row_id,
            step=privacy.STEP,
            reason=privacy.REASON,
            error=f"the row cannot be masked, so it is not published; it is in {self._source}, id {row_id}, "
            f"{at.isoformat()}",
            failed_at=datetime.now(UTC),
        )
        _, headers = encode_dead_letter(letter)
        created_at = at.isoformat().encode()
        headers += [
            (CREATED_AT, created_at),
            (CONTENT, one.mark.header()),
            (TRACEPARENT, traceparent_of(row_id, created_at)),
        ]
        partition = partition_of(row_id, self._partitions)
        return Outgoing(self._topics.dead_letter, partition, row_id.encode(), b"", headers)

    def _outgoing(self, message: Row, mark: Mark) -> Outgoing:
        value = encode(message)
        if len(value) > VALUE_BYTES:
            return self.dead_letter(message, mark, len(value))
        headers = [*headers_of(message), (CONTENT, mark.header())]
        partition = partition_of(message.text, self._partitions)
        return Outgoing(self._topics.rows, partition, message.row_id.encode(), value, headers)

    def dead_letter(self, message: Row, mark: Mark, size: int) -> Outgoing:
        """The dead letter of a row whose message has ``size`` bytes, which is too large for the topic."""
        # By reference: the bytes are in the source table, and too large for the topic.
        self._counts["dead_letters:too-large"] += 1
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


def _with(row: SourceRow, fields: PlainFields) -> SourceRow:
    text, user, session, domain = (None if value is None else value.encode() for value in fields)
    return row._replace(text=text, user=user, session=session, domain=domain)


def _str(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "replace")
