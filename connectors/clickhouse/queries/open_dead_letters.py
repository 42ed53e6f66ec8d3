"""Dead letters that are still open: what was given up, and has not come through since."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.dead_letters import (
    LETTER_KEY,
    NEWEST_LETTERS,
    LetterPlace,
    letter_conditions,
    letters_at,
)
from connectors.clickhouse.queries.places import AT_PLACES, place_batches, times_of
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, LABELED
from connectors.clickhouse.sink.batch import to_batch
from connectors.clickhouse.sink.stored_offsets import stored_offsets
from streams.core.errors import UndecodableError
from streams.core.messages import Augmented, DeadLetter, Labeled
from streams.core.records import Record
from streams.core.settings import Settings

_PAGE_LETTERS = 1_500
_PAGE_BYTES = 16_000_000


@dataclass(frozen=True)
class OpenLetter:
    """A dead letter, and where it stands in the dead-letter topic."""

    letter: DeadLetter
    partition: int
    offset: int
    topic_id: str

    @property
    def name(self) -> str:
        """What a retry is known by."""
        return f"{self.topic_id[:8]}/{self.partition}/{self.offset}"


async def resolved_letters(
    client: ClickHouseClient, settings: Settings, letters: list[DeadLetter]
) -> list[bool]:
    """For each letter whether its row has come through that step since it was given up."""
    found: dict[str, dict[str, datetime]] = {}
    places = await times_of(client, settings, [one.row_id for one in letters if one.row_id])
    for table, column in ((LABELED, "labeled_at"), (AUGMENTED, "augmented_at")):
        made, stored = found.setdefault(table, {}), found.setdefault(f"{table} stored", {})
        # The rows of one id may be in several batches, in order of time.
        for _, given in place_batches(places):
            for row_id, made_at, stored_at in await client.rows(
                f"SELECT row_id, max({column}), max(_stored_at)\n"
                f"FROM {result_table(settings, table)} WHERE {AT_PLACES} GROUP BY row_id",
                given,
            ):
                made[row_id] = max(made_at, made.get(row_id, made_at))
                stored[row_id] = max(stored_at, stored.get(row_id, stored_at))

    def since(table: str, one: DeadLetter) -> bool:
        at = found[table].get(one.row_id)
        return at is not None and _aware(at, one.failed_at) >= one.failed_at

    resolved = []
    for one in letters:
        if one.step == "store":
            table = AUGMENTED if one.topic.endswith(".augmented") else LABELED
            resolved.append(since(f"{table} stored", one))
        else:
            resolved.append(since(AUGMENTED if one.step == "augment" else LABELED, one))
    return resolved


async def open_letters(
    client: ClickHouseClient,
    settings: Settings,
    *,
    reason: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
    at: datetime | None = None,
    limit: int = 1_000_000,
) -> AsyncGenerator[list[OpenLetter], None]:
    """The open ones of the newest ``limit`` letters there are now, oldest first, in lists of some megabytes;
    of several for one row and step the newest.

    Raises:
        UnavailableError, ConfigurationError: as `list_letters`.
    """
    places = _Places()
    where, given = letter_conditions(reason=reason, step=step, since=since, at=at)
    await asyncio.to_thread(
        client.stream,
        # What the row is known by; a message that names none is known by its origin and bytes.
        "SELECT micros, toString(_topic_id), _partition, _offset, size FROM (\n"
        "    SELECT toUnixTimestamp64Micro(failed_at) AS micros, _topic_id, _partition, _offset,\n"
        "        length(payload) AS size, step, row_id, if(row_id != '', tuple('', 0, 0, 0),\n"
        "            tuple(toString(topic), partition, offset, cityHash64(payload))) AS origin\n"
        f"    FROM {result_table(settings, DEAD_LETTERS)} WHERE {where} AND {NOT_ERASED}\n"
        f"    ORDER BY {NEWEST_LETTERS} LIMIT 1 BY {LETTER_KEY} LIMIT {{most:UInt32}}\n"
        ") ORDER BY micros DESC, _topic_id, _partition, _offset LIMIT 1 BY step, row_id, origin",
        {**given, "most": limit},
        places.add,
    )
    for some in places.oldest_first():
        found = await letters_at(client, settings, some)
        letters = [
            OpenLetter(found[one], one.partition, one.offset, one.topic_id) for one in some if one in found
        ]
        done = await resolved_letters(client, settings, [one.letter for one in letters])
        yield [one for one, is_done in zip(letters, done, strict=True) if not is_done]
        del found, letters  # not kept while the next ones are read


class _Places:
    """Places of letters, newest first: 40 bytes each."""

    def __init__(self) -> None:
        self._topics: dict[str, int] = {}
        self._numbers = array("q")

    def add(self, columns: Sequence[Sequence[Any]]) -> None:
        """Columns: time in microseconds, topic id, partition, offset, bytes of the letter."""
        for micros, topic_id, partition, offset, size in zip(*columns, strict=True):
            topic = self._topics.setdefault(topic_id, len(self._topics))
            self._numbers.extend((micros, topic, partition, offset, size))

    def oldest_first(self) -> Iterator[list[LetterPlace]]:
        """In lists of at most _PAGE_LETTERS letters and about _PAGE_BYTES."""
        topics = list(self._topics)
        some: list[LetterPlace] = []
        size = 0
        for start in range(len(self._numbers) - 5, -1, -5):
            micros, topic, partition, offset, bytes_ = self._numbers[start : start + 5]
            if some and (len(some) >= _PAGE_LETTERS or size + bytes_ > _PAGE_BYTES):
                yield some
                some, size = [], 0
            some.append(LetterPlace(micros, topics[topic], partition, offset))
            size += bytes_
        if some:
            yield some


async def store_again(
    client: ClickHouseClient, settings: Settings, letter: DeadLetter, topic_id: UUID
) -> None:
    """Insert what the table had refused, at its old place, unless the table holds it by now.

    Raises:
        UndecodableError: it is no such message.
        RefusedError: the table refuses it again.
    """
    table = AUGMENTED if letter.topic.endswith(".augmented") else LABELED
    record = Record(letter.topic, letter.partition, letter.offset, 0, letter.row_id.encode(), letter.payload)
    batch, refused = to_batch(Augmented if table == AUGMENTED else Labeled, [record], topic_id)
    if refused:
        raise UndecodableError(refused[0].error, reason=refused[0].reason)
    spans = {letter.partition: (letter.offset, letter.offset + 1)}
    held = await stored_offsets(client, settings.result_database, table, topic_id, spans)
    if letter.offset not in held[letter.partition]:
        await client.insert_arrow(settings.result_database, table, batch.rows)


def _aware(at: datetime, like: datetime) -> datetime:
    return at if at.tzinfo is not None else at.replace(tzinfo=like.tzinfo)
