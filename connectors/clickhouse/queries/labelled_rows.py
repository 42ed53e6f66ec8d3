"""What the result tables already hold of some rows: the half of an anti-join that ClickHouse answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.places import AT_PLACES, Key, key_batches
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, LABELED
from connectors.clickhouse.sink.stored_offsets import OffsetSet
from streams.core.settings import Settings

_RANGES = 500
GIVEN_UP = "step IN ('poll', 'mask', 'label', 'store')"
_FROM, _TO = time_is(">=", "first"), time_is("<=", "last")


async def count_of(client: ClickHouseClient, settings: Settings, version: str) -> int:
    """How many labels of ``version`` are stored: more than one of a row where it was labelled again."""
    rows = await client.rows(
        f"SELECT count() FROM {_labeled(settings)} WHERE label_version = {{version:String}}",
        {"version": version},
    )
    return int(rows[0][0])


async def labelled(
    client: ClickHouseClient, settings: Settings, version: str, keys: Sequence[Key]
) -> set[Key]:
    """Those of ``keys`` that are labelled under ``version``."""
    found: set[Key] = set()
    caught_up = await catch_up(client, settings.result_database, LABELED)
    for given in key_batches(keys):
        rows = await client.rows(
            f"SELECT row_id, toUnixTimestamp64Micro(created_at) FROM {_labeled(settings)}\n"
            f"WHERE label_version = {{version:String}} AND {AT_PLACES}{caught_up}",
            {"version": version, **given},
        )
        found.update((row_id, int(micros)) for row_id, micros in rows)
    return found


async def labelled_between(
    client: ClickHouseClient,
    settings: Settings,
    first: int,
    last: int,
    take: Callable[[str, int, str], None],
) -> None:
    """Call ``take`` with id, time and text of each row from ``first`` to ``last`` that has a label, of
    whatever version. There may be many more than in the source: rows of files are among them.
    """

    def add(columns: Sequence[Any]) -> None:
        for row_id, micros, text in zip(*columns, strict=True):
            take(row_id, int(micros), text)

    caught_up = await catch_up(client, settings.result_database, LABELED)
    await asyncio.to_thread(
        client.stream,
        f"SELECT row_id, toUnixTimestamp64Micro(created_at), any(text) FROM {_labeled(settings)}\n"
        f"WHERE {_FROM} AND {_TO} GROUP BY row_id, created_at{caught_up}",
        {"first": first, "last": last},
        add,
    )


async def augmented(client: ClickHouseClient, settings: Settings, keys: Sequence[Key]) -> set[Key]:
    """Those of ``keys`` that have variants, under whatever version."""
    found: set[Key] = set()
    caught_up = await catch_up(client, settings.result_database, AUGMENTED)
    for given in key_batches(keys):
        rows = await client.rows(
            "SELECT row_id, toUnixTimestamp64Micro(created_at) "
            f"FROM {result_table(settings, AUGMENTED)}\n"
            f"WHERE {AT_PLACES}{caught_up}",
            given,
        )
        found.update((row_id, int(micros)) for row_id, micros in rows)
    return found


async def any_given_up(client: ClickHouseClient, settings: Settings) -> bool:
    """Whether any row was given up before it had a label."""
    caught_up = await catch_up(client, settings.result_database, DEAD_LETTERS)
    table = result_table(settings, DEAD_LETTERS)
    return bool(await client.rows(f"SELECT 1 FROM {table} WHERE {GIVEN_UP} LIMIT 1{caught_up}"))


async def given_up(
    client: ClickHouseClient, settings: Settings, plain_ids: Iterable[str]
) -> list[tuple[str, str, bytes]]:
    """Step, row id and bytes of rows that were given up before they had a label: of those whose id is one of
    ``plain_ids``, or is one of these and what distinguishes rows that share it.
    """
    found: list[tuple[str, str, bytes]] = []
    caught_up = await catch_up(client, settings.result_database, DEAD_LETTERS)
    for some in bound_batches(sorted(set(plain_ids)), str):
        columns = await client.columns(
            "SELECT toString(step), row_id, payload FROM "
            f"{result_table(settings, DEAD_LETTERS)} WHERE {GIVEN_UP}\n"
            "    AND substringIndex(row_id, '~', 1) IN {ids:Array(String)}\n"
            f"LIMIT 1 BY step, row_id, payload{caught_up}",
            {"ids": some},
            strings_as_bytes=True,
        )
        found += [
            (step.decode("utf-8", "replace"), row_id.decode("utf-8", "replace"), payload)
            for step, row_id, payload in zip(*columns, strict=True)
        ]
    return found


async def busiest_minute(client: ClickHouseClient, settings: Settings) -> float | None:
    """Calls a second in the busiest minute of the last day; None without any."""
    rows = await client.rows(
        "SELECT max(calls) FROM (SELECT countIf(NOT cached AND decided_by = 'llm') AS calls\n"
        f"FROM {_labeled(settings)}\n"
        # Live rows, which were labelled soon after their own time: the table is in that order.
        "WHERE created_at >= now() - INTERVAL 2 DAY AND labeled_at >= now() - INTERVAL 1 DAY\n"
        # Of erased rows only the day is known.
        f"AND {NOT_ERASED}\n"
        "GROUP BY toStartOfMinute(labeled_at))"
    )
    calls = rows[0][0] if rows else None
    return int(calls) / 60 if calls else None


@dataclass(frozen=True)
class StoredPlaces:
    """Where rows stood in Kafka: a topic's incarnation, and offsets by partition."""

    topic_id: UUID
    offsets: dict[int, OffsetSet]


async def drop_rows(
    client: ClickHouseClient, settings: Settings, version: str, places: Sequence[StoredPlaces] | None
) -> int:
    """Take the rows of ``version`` out of the tables, those at ``places`` or all; returns how many labels.

    When it returns, they are gone.

    Raises:
        UnavailableError, AccessError.
    """
    conditions: list[str] = ["1"]
    if places is not None:
        conditions = [
            f"(_topic_id = '{one.topic_id}' AND _partition = {int(number)} "
            f"AND _offset >= {int(start)} AND _offset < {int(end)})"
            for one in places
            for number, offsets in one.offsets.items()
            for start, end in offsets
        ]
    await catch_up(client, settings.result_database, LABELED)
    before = await count_of(client, settings, version)
    for table in (LABELED, AUGMENTED):
        name = result_table(settings, table)
        await catch_up(client, settings.result_database, table)
        for start in range(0, len(conditions), _RANGES):
            some = " OR ".join(conditions[start : start + _RANGES])
            where, given = f"label_version = {{version:String}} AND ({some})", {"version": version}
            if int((await client.rows(f"SELECT count() FROM {name} WHERE {where}", given))[0][0]):
                await client.command(
                    f"ALTER TABLE {name} DELETE WHERE {where} SETTINGS mutations_sync = 2", given
                )
    return before - await count_of(client, settings, version)


def _labeled(settings: Settings) -> str:
    return result_table(settings, LABELED)
