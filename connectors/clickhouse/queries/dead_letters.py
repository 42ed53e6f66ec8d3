"""Reads `dead_letters`, for `labelstream dead-letters list`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import quoted, result_table
from connectors.clickhouse.schema.tables import DEAD_LETTERS
from streams.core.errors import ConfigurationError
from streams.core.messages import DeadLetter
from streams.core.settings import Settings

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution
# A letter's place; the table's sorting key.
_KEY = "failed_at, _topic_id, _partition, _offset"


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
    where, parameters = _where(reason, step, since)
    if row_id is not None:
        where += " AND row_id = {row_id:String}"
        parameters["row_id"] = row_id
    if at is not None:
        where += " AND failed_at = fromUnixTimestamp64Micro({at:Int64}, 'UTC')"
        parameters["at"] = (at.astimezone(UTC) - _EPOCH) // _MICROSECOND
    names = list(DeadLetter.model_fields)
    columns = await client.columns(
        f"SELECT {', '.join(_selected(name) for name in names)}\n"
        f"FROM {result_table(settings, DEAD_LETTERS)}\n"
        f"WHERE {where}\n"
        # The same letter may be there twice until a merge, should it ever have been inserted twice.
        "ORDER BY failed_at DESC, _topic_id, _partition, _offset\n"
        f"LIMIT 1 BY {_KEY}\n"
        "LIMIT {most:UInt32}",
        {**parameters, "most": limit},
        strings_as_bytes=True,
    )
    rows = zip(*columns, strict=True) if columns else ()
    return [_letter(dict(zip(names, row, strict=True))) for row in rows]


async def count_letters(
    client: ClickHouseClient,
    settings: Settings,
    *,
    reason: str | None = None,
    step: str | None = None,
    since: datetime | None = None,
) -> dict[tuple[str, str], int]:
    """How many there are for each (step, reason), the most frequent first. Raises as `list_letters`."""
    where, parameters = _where(reason, step, since)
    rows = await client.rows(
        f"SELECT toString(step), toString(reason), uniqExact({_KEY}) AS found\n"
        f"FROM {result_table(settings, DEAD_LETTERS)} WHERE {where}\n"
        "GROUP BY step, reason ORDER BY found DESC, step, reason",
        parameters,
    )
    return {(row[0], row[1]): int(row[2]) for row in rows}


def _where(reason: str | None, step: str | None, since: datetime | None) -> tuple[str, dict[str, Any]]:
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
        conditions.append("failed_at >= fromUnixTimestamp64Micro({since:Int64}, 'UTC')")
        parameters["since"] = micros
    return " AND ".join(conditions), parameters


def _selected(name: str) -> str:
    if name == "failed_at":
        return "toUnixTimestamp64Micro(failed_at)"
    # LowCardinality would be read as text, whatever the bytes.
    return f"toString({quoted(name)})" if DeadLetter.model_fields[name].annotation is str else quoted(name)


def _letter(row: dict[str, Any]) -> DeadLetter:
    values = {name: _plain(name, value) for name, value in row.items()}
    return DeadLetter.model_validate(values)


def _plain(name: str, value: Any) -> Any:
    if name == "failed_at":
        return _EPOCH + int(value) * _MICROSECOND
    if isinstance(value, bytes) and name != "payload":
        return value.decode("utf-8", "replace")
    return value
