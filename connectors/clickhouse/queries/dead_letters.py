"""Reads `dead_letters`, for `labelstream dead-letters list`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, quoted, result_table, time_is
from connectors.clickhouse.schema.tables import DEAD_LETTERS
from streams.core.errors import ConfigurationError
from streams.core.messages import DeadLetter
from streams.core.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution
_FIELDS = list(DeadLetter.model_fields)
# A letter's place; the table's sorting key.
LETTER_KEY = "failed_at, _topic_id, _partition, _offset"
NEWEST_LETTERS = "failed_at DESC, _topic_id, _partition, _offset"


async def list_letters(
    client: ClickHouseClient,
    settings: Settings,
    *,
    reason: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
    row_id: str | None = None,
    at: datetime | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """The newest dead letters, newest first, at most ``limit``, each once.

    ``reason``, ``step`` and ``row_id`` are compared as a whole; ``since`` (with a zone) is the earliest
    ``failed_at``, ``at`` the only one. ``payload`` is what was received, byte for byte.

    Raises:
        UnavailableError: ClickHouse does not answer.
        ConfigurationError: no such table (`labelstream init` makes it), a ``limit`` below 1, or a
            ``since`` without a zone.
    """
    if limit < 1:
        raise ConfigurationError(f"the limit is {limit}", fix="give a number of at least 1")
    where, parameters = letter_conditions(reason=reason, step=step, since=since, at=at, row_id=row_id)
    columns = await client.columns(
        f"SELECT {', '.join(_selected(name) for name in _FIELDS)}\n"
        f"FROM {result_table(settings, DEAD_LETTERS)}\n"
        f"WHERE {where}\n"
        # The same letter may be there twice until a merge, should it ever have been inserted twice.
        f"ORDER BY {NEWEST_LETTERS}\n"
        f"LIMIT 1 BY {LETTER_KEY}\n"
        "LIMIT {most:UInt32}",
        {**parameters, "most": limit},
        strings_as_bytes=True,
    )
    rows = zip(*columns, strict=True) if columns else ()
    return [_letter(dict(zip(_FIELDS, row, strict=True))) for row in rows]


class LetterPlace(NamedTuple):
    """Where a letter is: `failed_at` in microseconds since 1970, and its place in the dead-letter topic."""

    micros: int
    topic_id: str
    partition: int
    offset: int


async def letters_at(
    client: ClickHouseClient, settings: Settings, places: Sequence[LetterPlace]
) -> dict[LetterPlace, DeadLetter]:
    """The letters at ``places``. Raises as `list_letters`."""
    found: dict[LetterPlace, DeadLetter] = {}
    wanted = set(places)
    for some in bound_batches(places, lambda place: str(place.offset)):
        columns = await client.columns(
            "SELECT toUnixTimestamp64Micro(failed_at), toString(_topic_id), _partition, _offset, "
            f"{', '.join(_selected(name) for name in _FIELDS)}\n"
            f"FROM {result_table(settings, DEAD_LETTERS)}\n"
            f"WHERE {time_is('>=', 'first', 'failed_at')} AND {time_is('<=', 'last', 'failed_at')}\n"
            "    AND _offset IN {offsets:Array(Int64)}\n"
            f"LIMIT 1 BY {LETTER_KEY}",
            {
                "first": min(place.micros for place in some),
                "last": max(place.micros for place in some),
                "offsets": sorted({place.offset for place in some}),
            },
            strings_as_bytes=True,
        )
        for micros, topic_id, partition, offset, *row in zip(*columns, strict=True):
            place = LetterPlace(int(micros), topic_id.decode(), int(partition), int(offset))
            if place in wanted:
                found[place] = _letter(dict(zip(_FIELDS, row, strict=True)))
    return found


async def count_letters(
    client: ClickHouseClient,
    settings: Settings,
    *,
    reason: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
) -> dict[tuple[str, str], int]:
    """How many there are for each (step, reason), the most frequent first. Raises as `list_letters`."""
    where, parameters = letter_conditions(reason=reason, step=step, since=since)
    rows = await client.rows(
        f"SELECT toString(step), toString(reason), uniqExact({LETTER_KEY}) AS found\n"
        f"FROM {result_table(settings, DEAD_LETTERS)} WHERE {where}\n"
        "GROUP BY step, reason ORDER BY found DESC, step, reason",
        parameters,
    )
    return {(row[0], row[1]): int(row[2]) for row in rows}


def letter_conditions(
    *,
    reason: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
    at: datetime | None = None,
    row_id: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """The condition for letters as asked of `list_letters`, and its parameters. Raises as it does."""
    conditions, parameters = ["1"], dict[str, Any]()
    if reason is not None:
        conditions.append("reason = {reason:String}")
        parameters["reason"] = reason
    if step is not None:
        conditions.append("step = {step:String}")
        parameters["step"] = step
    if since is not None:
        if since.tzinfo is None:
            raise ConfigurationError("the time has no zone", fix="add Z for UTC, or +03:00")
        # Whole microseconds: a float would lose some.
        micros = (since.astimezone(UTC) - _EPOCH) // _MICROSECOND
        conditions.append(time_is(">=", "since", "failed_at"))
        parameters["since"] = micros
    if row_id is not None:
        conditions.append("row_id = {row_id:String}")
        parameters["row_id"] = row_id
    if at is not None:
        conditions.append(time_is("=", "at", "failed_at"))
        parameters["at"] = (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
    return " AND ".join(conditions), parameters


def _selected(name: str) -> str:
    if name == "failed_at":
        return "toUnixTimestamp64Micro(failed_at)"
    # LowCardinality would be read as text, whatever the bytes.
    return f"toString({quoted(name)})" if DeadLetter.model_fields[name].annotation is str else quoted(name)


def _letter(row: dict[str, Any]) -> DeadLetter:
    # Not validated: other tools may have written it, and it is shown as it is.
    return DeadLetter.model_construct(**{name: _plain(name, value) for name, value in row.items()})


def _plain(name: str, value: Any) -> Any:
    if name == "failed_at":
        return _EPOCH + int(value) * _MICROSECOND
    if isinstance(value, bytes) and name != "payload":
        return value.decode("utf-8", "replace")
    return value
