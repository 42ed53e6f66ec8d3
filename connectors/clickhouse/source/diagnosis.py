"""Finds out why a readable source table gives no rows, or different rows at each reading."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, quoted
from connectors.clickhouse.source.inspection import FoundTable, names_column
from connectors.clickhouse.source.shape import Shape
from connectors.clickhouse.source.slices import MOST_SLICES
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

# The setting that is named when there are only rows older than it asks for, which is no fault.
POLL_START = "POLL_START"
_ROWS = 50  # compared at each end of the table
_LOOKS = 3
# Longer than a second, so that now() gives another value.
_PAUSE_SECONDS = 1.1
_COLUMNS = ("time", "tie", "id", "text", "user")


async def refuse_unsteady(
    client: ClickHouseClient,
    settings: Settings,
    found: FoundTable,
    shape: Shape,
    pause: float = _PAUSE_SECONDS,
) -> None:
    """Read some rows twice, if the table is a view or the columns are computed, and compare them.

    Raises:
        ConfigurationError: most rows are gone at the second reading.
    """
    read = [settings.clickhouse_timestamp_column, settings.clickhouse_text_column]
    read += [settings.clickhouse_id_column, settings.clickhouse_user_id_column]
    computed = [name for name in read if name in found.columns and found.may_vary(name)]
    if not (computed or found.indirect):
        return
    for _ in range(_LOOKS):
        before = [await _end(client, shape, order) for order in ("ASC", "DESC")]
        await asyncio.sleep(pause)
        after = [await _again(client, shape, rows) for rows in before]
        gone = sum((Counter(one) - Counter(two)).total() for one, two in zip(before, after, strict=True))
        if gone * 2 <= sum(map(len, before)):
            return
    columns = f"column {', '.join(computed)} is" if computed else f"a column of the {found.engine} may be"
    raise ConfigurationError(
        f"{found.name} gives different rows at each reading: {columns} computed at each reading",
        setting="CLICKHOUSE_TABLE",
        fix="name stored columns (ALTER TABLE ... MATERIALIZE COLUMN stores the values of a default)",
    )


async def why_nothing(
    client: ClickHouseClient, settings: Settings, found: FoundTable, shape: Shape, since: int | None
) -> ConfigurationError | None:
    """Why no row from ``since`` on (microseconds since 1970) is found; None if the table is empty."""
    there = int((await client.rows(f"SELECT count() FROM {shape.table}"))[0][0])
    if not there:
        return await _why_hidden(client, settings, found)
    column = settings.clickhouse_timestamp_column
    if not await _count(client, shape):
        return ConfigurationError(
            f"{found.name} has {there} rows, none of them with a time: {column} is NULL",
            setting="CLICKHOUSE_TIMESTAMP_COLUMN",
            fix="name a column that holds the rows' times",
        )
    if since is not None and not await _count(client, shape, since):
        return ConfigurationError(
            f"all {there} rows of {found.name} are older than POLL_START",
            setting=POLL_START,
            fix="to label older rows as well, run labelstream backfill",
        )
    return ConfigurationError(
        f"{found.name} has {there} rows with a time in {column}, but reading by time finds none of them",
        setting="CLICKHOUSE_TIMESTAMP_COLUMN",
        fix="name another time column, and report this as a fault of labelstream",
    )


async def notes_on(
    client: ClickHouseClient, settings: Settings, found: FoundTable, shape: Shape, now: int
) -> list[str]:
    """Remarks on a table that can be read. ``now``: microseconds since 1970."""
    notes = []
    if shape.time.is_date:
        notes.append(
            "its time column is a date: each poll reads all rows of the last day; a DateTime is cheaper"
        )
    time = settings.clickhouse_timestamp_column
    if not (shape.sorted or found.indirect or names_column(time, found.partition)):
        notes.append(
            f"its sorting key ({found.key or 'none'}) does not begin with the time, so each poll reads the "
            f"whole time column, and a backfill up to {MOST_SLICES} times the table; ORDER BY the time, or "
            f"PARTITION BY its month, avoids that, or ALTER TABLE {found.name} ADD PROJECTION "
            f"by_time (SELECT * ORDER BY {quoted(time)}), and MATERIALIZE PROJECTION by_time"
        )
    if found.indirect and not shape.final:
        notes.append(
            "the user may not change the setting final, so a row that was replaced and is not merged yet is "
            "read as well"
        )
    if shape.final:
        notes.append(
            "the newest version of each row is read; a version that replaces a published row is published "
            "as well, with the id id~digest"
        )
    read = shape.select(("time",), order="DESC", limit=1)
    newest = await client.rows(read.sql, read.parameters)
    if newest and int(newest[0][0]) > now + 86_400_000_000:
        notes.append("its newest row has a time in the future")
    return notes


async def _why_hidden(
    client: ClickHouseClient, settings: Settings, found: FoundTable
) -> ConfigurationError | None:
    rows = await client.rows(
        "SELECT total_rows FROM system.tables WHERE database = {db:String} AND name = {table:String}",
        {"db": settings.clickhouse_database, "table": settings.clickhouse_table},
    )
    if not rows or not rows[0][0]:
        return None
    return ConfigurationError(
        f"{found.name} stores {rows[0][0]} rows, of which the user sees none: a row policy hides them, or "
        "they are deleted",
        setting="CLICKHOUSE_USERNAME",
        fix="let a row policy show the user the rows: CREATE ROW POLICY ... USING 1 TO ...",
    )


async def _count(client: ClickHouseClient, shape: Shape, since: int | None = None) -> int:
    read = shape.select(("time",), since)
    return int((await client.rows(f"SELECT count() FROM ({read.subquery})", read.parameters))[0][0])


async def _end(
    client: ClickHouseClient, shape: Shape, order: Literal["ASC", "DESC"]
) -> list[tuple[Any, ...]]:
    read = shape.select(_COLUMNS, order=order, limit=_ROWS)
    return _rows(await client.columns(read.sql, read.parameters, strings_as_bytes=True))


async def _again(
    client: ClickHouseClient, shape: Shape, rows: Iterable[tuple[Any, ...]]
) -> list[tuple[Any, ...]]:
    if not rows:
        return []
    times, ties = [row[0] for row in rows], [row[1].hex().upper() for row in rows]
    read = shape.select(_COLUMNS, min(times), max(times) + 1)
    found: list[tuple[Any, ...]] = []
    for some in bound_batches(ties, str):
        columns = await client.columns(
            f"SELECT * FROM ({read.subquery}) WHERE hex(tie) IN {{ties:Array(String)}}",
            {**read.parameters, "ties": some},
            strings_as_bytes=True,
        )
        found += _rows(columns)
    return found


def _rows(columns: Iterable[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*columns, strict=True))
