"""Dead letters that are still open: what was given up, and has not come through since."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.queries.dead_letters import list_letters
from connectors.clickhouse.queries.places import AT_PLACES, place_batches, times_of
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, LABELED
from connectors.clickhouse.sink.batch import to_batch
from connectors.clickhouse.sink.stored_offsets import stored_offsets
from streams.core.errors import UndecodableError
from streams.core.messages import Augmented, DeadLetter, Labeled
from streams.core.records import Record
from streams.core.settings import Settings
from streams.core.times import micros_of


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
    ids = [one.row_id for one in letters if one.row_id]
    for table, column in ((LABELED, "labeled_at"), (AUGMENTED, "augmented_at")):
        made, stored = found.setdefault(table, {}), found.setdefault(f"{table} stored", {})
        # The rows of one id may be in several batches, in order of time.
        for _, given in place_batches(await times_of(client, settings, table, ids)):
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
) -> list[OpenLetter]:
    """The open letters, oldest first; of several for one row and step the newest.

    Raises:
        UnavailableError, ConfigurationError: as `list_letters`.
    """
    letters = await list_letters(client, settings, reason=reason, step=step, since=since, at=at, limit=limit)
    places = await _places(client, settings, letters)
    done = await resolved_letters(client, settings, letters)
    newest: dict[tuple[object, ...], OpenLetter] = {}
    for letter, is_done in zip(letters, done, strict=True):
        key = (letter.topic, letter.partition, letter.offset, round(letter.failed_at.timestamp() * 1e6))
        place = places.get(key)
        if is_done or place is None:
            continue
        row = (letter.step, letter.row_id) if letter.row_id else (letter.step, letter.payload, *key[:3])
        newest.setdefault(row, OpenLetter(letter, *place))  # newest first
    return list(reversed(newest.values()))


async def _places(
    client: ClickHouseClient, settings: Settings, letters: list[DeadLetter]
) -> dict[tuple[str, int, int, int], tuple[int, int, str]]:
    """Where dead letters stand in their topic, by what they are of and when it failed."""
    if not letters:
        return {}
    span = {
        "first": micros_of(min(one.failed_at for one in letters)),
        "last": micros_of(max(one.failed_at for one in letters)),
    }
    return {
        (row[0], row[1], row[2], row[3]): (int(row[4]), int(row[5]), str(row[6]))
        for row in await client.rows(
            "SELECT toString(topic), partition, offset, toUnixTimestamp64Micro(failed_at), "
            f"_partition, _offset, _topic_id FROM {result_table(settings, DEAD_LETTERS)}\n"
            "WHERE failed_at >= fromUnixTimestamp64Micro({first:Int64}, 'UTC')\n"
            "    AND failed_at <= fromUnixTimestamp64Micro({last:Int64}, 'UTC')",
            span,
        )
    }


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
