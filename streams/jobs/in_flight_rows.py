"""Rows that are on the topics and not in the tables yet: the part of an anti-join that Kafka answers.

A row moves from rows or replay to a topic with labels, and from there to the tables. These are read in that
order, the tables last. So no row can be missed: if it has left one place, it is found in the next.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any, TypeVar

from connectors.kafka.admin import Admin
from connectors.kafka.admin_client import AdminClient
from connectors.kafka.lag import LagReader
from connectors.kafka.tail import TailReader
from streams.core.codec import CREATED_AT, LABEL_VERSION, decode
from streams.core.digests import Digests, key_digest
from streams.core.errors import UnavailableError, UndecodableError
from streams.core.messages import Message, Row
from streams.core.records import Record, made_anew
from streams.core.times import micros_of
from streams.core.topics import ConsumerGroup, Topics
from streams.ports.kafka import Tail

Identity = tuple[str, bytes]
M = TypeVar("M", bound=Message)


class InFlightRows:
    """Finds rows that are on the topics and not in the tables yet."""

    def __init__(self, topics: Topics, tail: Tail, lags: LagReader, admin: Admin) -> None:
        self._topics = topics
        self._tail = tail
        self._lags = lags
        self._admin = admin

    async def under(self, version: str, *, live: bool) -> Digests:
        """The `key_digest` of the rows that are, or will be, labelled under ``version``. ``live``: live rows
        are labelled under it too.

        Raises:
            UnavailableError, AccessError.
        """
        topics, found = self._topics, Digests()
        name = version.encode()
        async for record in self._unread(topics.groups.agents, (topics.rows, topics.replay)):
            told = record.header(LABEL_VERSION)
            if told == name or (told is None and live):
                found.add(key_digest(*_identity(record)))
        async for record in self._unread(topics.groups.sink, (topics.labeled, topics.shadow)):
            if record.header(LABEL_VERSION) == name:
                found.add(key_digest(*_identity(record)))
        return found

    async def all(self) -> AsyncIterator[tuple[str, int, str]]:
        """Id, time (microseconds since 1970) and text of all rows that have, or will have, any label.

        Raises:
            UnavailableError, AccessError.
        """
        topics = self._topics
        for group, names in (
            (topics.groups.agents, (topics.rows, topics.replay)),
            (topics.groups.sink, (topics.labeled, topics.shadow, topics.dead_letter)),
        ):
            async for record in self._unread(group, names):
                try:
                    row = decode(Row, record.value)
                except UndecodableError:
                    continue
                yield row.row_id, micros_of(row.created_at), row.text

    async def of(self, partitions: Collection[int]) -> AsyncIterator[Record]:
        """The messages that their readers have not read, in the order in which rows move on, of these
        partitions.

        Raises:
            UnavailableError, AccessError.
        """
        groups = self._topics.groups
        for group in (groups.agents, groups.sink):
            async for record in self._unread(group, group.topics, partitions):
                yield record

    async def _unread(
        self, group: ConsumerGroup, names: Sequence[str], partitions: Collection[int] | None = None
    ) -> AsyncIterator[Record]:
        """The messages that ``group`` has not committed.

        Raises:
            UnavailableError: the group is behind what retention has left; or Kafka does not answer.
        """
        committed = await self._lags.positions(group.name, names)
        if partitions is not None:
            committed = {where: one for where, one in committed.items() if where.partition in partitions}
        ids = {name: str(number) for name, number in (await self._admin.topic_ids(names)).items()}
        starts = {}
        for where, commit in committed.items():
            other = made_anew(commit.metadata, where.topic, ids[where.topic])
            starts[where] = 0 if other else commit.offset
        # A slow replica hides messages whose inputs are committed: they would be taken for lost.
        bounds = await self._tail.written_many(starts)
        for where, start in starts.items():
            if 0 <= start < bounds[where][0]:
                # The group may have some of them at work, or will report them as lost.
                place = f"{where.topic}/{where.partition}"
                raise UnavailableError(
                    f"{group.name} has not committed messages of {place} that are gone", after=2.0
                )
        async for records in self._tail.read_many(starts, bounds):
            for record in records:
                yield record


class InFlightReader:
    """Implements `streams.ports.kafka.InFlight`. Each call opens a connection to read by."""

    def __init__(self, connection: dict[str, Any], topics: Topics, client: AdminClient | None = None) -> None:
        self._connection = connection
        self._client = client or AdminClient(connection)
        self._topics = topics

    async def of(self, partitions: Collection[int]) -> AsyncIterator[Record]:
        async with LagReader(self._connection, self._client) as lags:
            tail = TailReader(self._connection, self._client)
            rows = InFlightRows(self._topics, tail, lags, Admin(self._connection, self._client))
            async for record in rows.of(partitions):
                yield record

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        async with LagReader(self._connection, self._client) as lags:
            found = await lags.positions(group, [topic])
        return {where.partition: commit.offset for where, commit in found.items()}


def _identity(record: Record) -> Identity:
    """From the headers; a row from another program need not have them."""
    created_at = record.header(CREATED_AT)
    if created_at is None:
        try:
            row = decode(Row, record.value)
        except UndecodableError:
            return ("", b"")
        return (row.row_id, row.created_at.isoformat().encode())
    return ((record.key or b"").decode("utf-8", "replace"), created_at)
