"""What the tables hold of uploaded files' rows, whose ids are `upload:<digest>:<n>`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, result_table
from connectors.clickhouse.queries.label_versions import PROMOTED, list_versions
from connectors.clickhouse.queries.labelled_rows import GIVEN_UP
from connectors.clickhouse.queries.places import AT_PLACES, key_batches
from connectors.clickhouse.schema.newest import newest_first
from connectors.clickhouse.schema.tables import AUGMENTED, DEAD_LETTERS, LABELED
from streams.core.label_version import HUMAN
from streams.core.settings import Settings


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

    def __contains__(self, number: int) -> bool:
        place = number >> 3
        return place < len(self._bits) and bool(self._bits[place] >> (number & 7) & 1)


async def settled_ids(
    client: ClickHouseClient, settings: Settings, rows: Sequence[tuple[str, int]], *, letters: bool
) -> set[str]:
    """The ids of those of ``rows`` (id, time in microseconds since 1970) that have a label of whatever
    version, or, with ``letters``, were given up before they had one. Those that could not be masked are
    tried again.

    Raises:
        UnavailableError, AccessError.
    """
    found: set[str] = set()
    caught_up = await catch_up(client, settings.result_database, LABELED)
    if letters:
        await catch_up(client, settings.result_database, DEAD_LETTERS)
    for given in key_batches(rows):
        answer = await client.rows(
            f"SELECT DISTINCT row_id FROM {result_table(settings, LABELED)} WHERE {AT_PLACES}{caught_up}",
            given,
        )
        found.update(row_id for (row_id,) in answer)
        if letters:
            reasons = await given_up_of(client, settings, given["ids"], maskable=True)
            found.update(reasons)
    return found


class Label(NamedTuple):
    """A stored label. ``labeled_at``: microseconds since 1970."""

    label: str
    confidence: float | None
    version: str
    model: str
    labeled_at: int


async def ranks_of(client: ClickHouseClient, settings: Settings) -> dict[str, int]:
    """For each version known how far it goes before others, as the current view has it: people's labels
    before all, of promoted ones the newest first, then trials that label live rows; below 0 for others."""
    known = await list_versions(client, settings)
    promoted = [one.version for one in known if one.status == PROMOTED]
    ranks = {version: place for place, version in enumerate(reversed(promoted), 1)}
    others = {one.version: 0 if one.live else -1 for one in known if one.version not in ranks}
    return others | ranks | {HUMAN: len(ranks) + 1}


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
    for given in key_batches(rows):
        answer += await client.rows(
            "SELECT row_id, toString(label), confidence, toString(label_version), toString(model),\n"
            f"    toUnixTimestamp64Micro(labeled_at) FROM {result_table(settings, LABELED)}\n"
            f"WHERE {AT_PLACES} {only}\n"
            f"ORDER BY {newest_first('labeled_at')} LIMIT 1 BY created_at, row_id, label_version",
            given | ({} if version is None else {"version": version}),
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
    for given in key_batches(rows):
        answer += await client.rows(
            "SELECT row_id, toString(label_version), variants "
            f"FROM {result_table(settings, AUGMENTED)} WHERE {AT_PLACES}\n"
            f"ORDER BY {newest_first('augmented_at')} LIMIT 1 BY created_at, row_id, label_version",
            given,
        )
    return {(row_id, version): list(variants) for row_id, version, variants in answer}


async def given_up_of(
    client: ClickHouseClient, settings: Settings, ids: Sequence[str], *, maskable: bool = False
) -> dict[str, str]:
    """The reason for each of the rows ``ids`` that was given up before it had a label. ``maskable``: without
    those that could not be masked.

    Raises:
        UnavailableError, AccessError.
    """
    found: dict[str, str] = {}
    given_up = f"{GIVEN_UP} AND step != 'mask'" if maskable else GIVEN_UP
    for some in bound_batches(ids, str):
        found |= dict(
            await client.rows(
                "SELECT row_id, any(toString(reason)) "
                f"FROM {result_table(settings, DEAD_LETTERS)}\n"
                f"WHERE {given_up} AND row_id IN {{ids:Array(String)}} GROUP BY row_id",
                {"ids": some},
            )
        )
    return found
