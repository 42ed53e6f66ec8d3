"""What the tables hold of uploaded files' rows, whose ids are `upload:<digest>:<n>`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, quoted, result_table
from connectors.clickhouse.queries.label_versions import PROMOTED
from connectors.clickhouse.schema.newest import newest_first
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, LABELED, VERSIONS
from streams.core.label_version import HUMAN
from streams.core.settings import Settings

_GIVEN_UP = "step IN ('poll', 'label', 'store')"


class Numbers:
    """A set of row numbers, a bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        """``number``: from 1."""
        place = number >> 3
        if place >= len(self._bits):
            self._bits.extend(bytes(place + 1 - len(self._bits) + 4096))
        self._bits[place] |= 1 << (number & 7)

    def discard(self, number: int) -> None:
        if number in self:
            self._bits[number >> 3] &= ~(1 << (number & 7)) & 255

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)


async def settled_numbers(client: ClickHouseClient, settings: Settings, prefix: str, found: Numbers) -> None:
    """Add to ``found`` the numbers of rows, whose ids begin with ``prefix``, that have a label of whatever
    version, or were given up before they had one.

    Raises:
        UnavailableError, AccessError.
    """
    database = quoted(settings.result_database)
    number = "toUInt64OrZero(substring(row_id, {begin:UInt32}))"
    begins = "startsWith(row_id, {prefix:String})"
    given = {"prefix": prefix, "begin": len(prefix) + 1}

    def ask(table: str, where: str) -> None:
        sql = f"SELECT {number} FROM {database}.{quoted(table)} WHERE {begins} {where}"

        def add(columns: Sequence[Any]) -> None:
            for number in columns[0]:
                found.add(int(number))

        client.stream(sql, given, add)

    await asyncio.to_thread(ask, LABELED, "")
    await asyncio.to_thread(ask, DEAD_LETTERS, f"AND {_GIVEN_UP}")


class Label(NamedTuple):
    """A stored label. ``labeled_at``: microseconds since 1970."""

    label: str
    confidence: float | None
    version: str
    model: str
    labeled_at: int


async def ranks_of(client: ClickHouseClient, settings: Settings) -> dict[str, int]:
    """For each version known how far it goes before others, as the current view has it: people's labels
    before all, of promoted ones the newest first; below 0 for those that are not promoted."""
    rows = await client.rows(
        "SELECT version, argMax(tuple(toString(status), promoted_at), changed_at) AS last\n"
        f"FROM {result_table(settings, VERSIONS)} GROUP BY version"
    )
    promoted = sorted((last[1], version) for version, last in rows if last[0] == PROMOTED)
    places = {version: place for place, (_, version) in enumerate(promoted, 1)}
    return {version: places.get(version, -1) for version, _ in rows} | {HUMAN: len(places) + 1}


async def labels_of(
    client: ClickHouseClient,
    settings: Settings,
    rows: Sequence[tuple[str, int]],
    *,
    version: str | None,
    ranks: dict[str, int],
) -> dict[str, Label]:
    """The label of each row (id, time in microseconds since 1970) that has one: the newest under ``version``,
    or the current one by ``ranks``.

    Raises:
        UnavailableError, AccessError.
    """
    only = "" if version is None else "AND label_version = {version:String}"
    answer: list[tuple[Any, ...]] = []
    for some in bound_batches(rows, _id_of):
        answer += await client.rows(
            "SELECT row_id, toString(label), confidence, toString(label_version), toString(model),\n"
            f"    toUnixTimestamp64Micro(labeled_at) FROM {result_table(settings, LABELED)}\n"
            f"WHERE {_IN_RANGE} {only}\n"
            f"ORDER BY {newest_first('labeled_at')} LIMIT 1 BY created_at, row_id, label_version",
            _range(some) | ({} if version is None else {"version": version}),
        )
    found: dict[str, Label] = {}
    for row_id, *fields in answer:
        label = Label(*fields)
        rank = ranks.get(label.version, 0)
        if version is None and rank < 0:
            continue
        known = found.get(row_id)
        if known is None or rank > ranks.get(known.version, 0):
            found[row_id] = label
    return found


async def variants_of(
    client: ClickHouseClient, settings: Settings, rows: Sequence[tuple[str, int]]
) -> dict[tuple[str, str], list[str]]:
    """The newest variants of rows (id, time), by id and version.

    Raises:
        UnavailableError, AccessError.
    """
    answer: list[tuple[Any, ...]] = []
    for some in bound_batches(rows, _id_of):
        answer += await client.rows(
            "SELECT row_id, toString(label_version), variants "
            f"FROM {result_table(settings, AUGMENTED)} WHERE {_IN_RANGE}\n"
            f"ORDER BY {newest_first('augmented_at')} LIMIT 1 BY created_at, row_id, label_version",
            _range(some),
        )
    return {(row_id, version): list(variants) for row_id, version, variants in answer}


async def given_up_of(client: ClickHouseClient, settings: Settings, ids: Sequence[str]) -> dict[str, str]:
    """The reason for each of the rows ``ids`` that was given up before it had a label.

    Raises:
        UnavailableError, AccessError.
    """
    found: dict[str, str] = {}
    for some in bound_batches(ids, str):
        found |= dict(
            await client.rows(
                "SELECT row_id, any(toString(reason)) "
                f"FROM {result_table(settings, DEAD_LETTERS)}\n"
                f"WHERE {_GIVEN_UP} AND row_id IN {{ids:Array(String)}} GROUP BY row_id",
                {"ids": some},
            )
        )
    return found


_IN_RANGE = (
    "created_at >= fromUnixTimestamp64Micro({first:Int64}, 'UTC') "
    "AND created_at <= fromUnixTimestamp64Micro({last:Int64}, 'UTC') AND row_id IN {ids:Array(String)}"
)


def _range(rows: Sequence[tuple[str, int]]) -> dict[str, Any]:
    return {
        "first": min(micros for _, micros in rows),
        "last": max(micros for _, micros in rows),
        "ids": [row_id for row_id, _ in rows],
    }


def _id_of(row: tuple[str, int]) -> str:
    return row[0]
