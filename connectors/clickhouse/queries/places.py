"""Rows by their ids. The tables are in order of time, so the times are looked up first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, result_table, time_is
from connectors.clickhouse.schema.tables import LABELED
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place

# Ids are bound in so many parameters at most: a query that looks for thousands reads half of the projection.
# All of them together must be shorter than a query may be, 256 KiB (max_query_size).
_PARAMETERS = 3
# Rows of one id, the newest: a source may repeat an id without end.
_MOST = 1_000

# Where rows with these times and ids are, in whatever pairs. The times are the beginning of the tables' key:
# the server finds the pieces by them, behind the current view too. Those of a file's rows may lie anywhere,
# so that the range, which leaves out parts of the table, may be all of it.
AT_PLACES = (
    "created_at IN (SELECT fromUnixTimestamp64Micro(arrayJoin({ats:Array(Int64)}), 'UTC'))\n"
    f"    AND {time_is('>=', 'first_at')} AND {time_is('<=', 'last_at')}\n"
    "    AND row_id IN {ids:Array(String)}"
)

# The tables' index of ids takes one that is not there for one that is in a thousandth of all cases.
_TOO_MANY_FOR_INDEX = 300

# A row as the tables know it: its id, and its time in microseconds since 1970.
Key = tuple[str, int]


async def newest_time(client: ClickHouseClient, settings: Settings, now: int) -> int | None:
    """The time of the newest row up to ``now``; both in microseconds since 1970.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await client.rows(
        f"SELECT toUnixTimestamp64Micro(created_at) FROM {result_table(settings, LABELED)}\n"
        f"WHERE {time_is('<=', 'now')} ORDER BY created_at DESC LIMIT 1",
        {"now": now},
    )
    return int(rows[0][0]) if rows else None


async def times_of(client: ClickHouseClient, settings: Settings, row_ids: Sequence[str]) -> list[Place]:
    """Where the labels, and so the variants, of rows with these ids are; of each id the newest 1,000.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: list[Place] = []
    batches = list(bound_batches(sorted(set(row_ids)), str))
    for start in range(0, len(batches), _PARAMETERS):
        ids = {f"ids{number}": some for number, some in enumerate(batches[start : start + _PARAMETERS])}
        named = ", ".join(f"{{{name}:Array(String)}}" for name in ids)
        rows = await client.rows(
            # As the projection `row_times` has it.
            f"SELECT row_id, toUnixTimestamp64Micro(created_at) FROM (\n"
            f"    SELECT row_id, created_at FROM {result_table(settings, LABELED)}\n"
            f"    WHERE row_id IN (SELECT arrayJoin(arrayConcat({named})))\n"
            ") GROUP BY row_id, created_at ORDER BY row_id, created_at DESC LIMIT {most:UInt32} BY row_id",
            {**ids, "most": _MOST},
        )
        found += [Place(moment(int(micros)), str(row_id)) for row_id, micros in rows]
    return found


async def time_of_newest(
    client: ClickHouseClient,
    settings: Settings,
    count: int,
    conditions: Sequence[str] = ("1",),
    parameters: Mapping[str, Any] | None = None,
) -> int | None:
    """The time of the ``count``-th newest label that meets ``conditions``, microseconds since 1970; None if
    there are not so many. To look at 100,000 takes a part of a second.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await client.rows(
        "SELECT count(), toUnixTimestamp64Micro(min(created_at)) FROM (\n"
        f"    SELECT created_at FROM {result_table(settings, LABELED)} WHERE {' AND '.join(conditions)}\n"
        "    ORDER BY created_at DESC LIMIT {most:UInt64}\n"
        ")",
        {**(parameters or {}), "most": count},
    )
    return int(rows[0][1]) if int(rows[0][0]) == count else None


def index_helps(given: Mapping[str, Any]) -> bool:
    """Whether the index of ids leaves out anything where so many are asked for: ``skip_indexes``."""
    return len(given["ids"]) < _TOO_MANY_FOR_INDEX


def place_batches(places: Sequence[Place]) -> Iterator[tuple[list[Place], dict[str, Any]]]:
    """``places`` in order of time, some for each query, with the parameters of AT_PLACES."""
    ordered = sorted(places, key=lambda place: (place.created_at, place.row_id))
    for some in bound_batches(ordered, lambda place: place.row_id):
        yield some, _given([(place.row_id, micros_of(place.created_at)) for place in some])


def key_batches(keys: Sequence[Key]) -> Iterator[dict[str, Any]]:
    """The parameters of AT_PLACES, for as many of ``keys`` in each query as can be bound."""
    for some in bound_batches(keys, lambda key: key[0]):
        yield _given(some)


def _given(keys: Sequence[Key]) -> dict[str, Any]:
    ats = sorted({micros for _, micros in keys})
    ids = sorted({row_id for row_id, _ in keys})
    return {"ats": ats, "ids": ids, "first_at": ats[0], "last_at": ats[-1]}
