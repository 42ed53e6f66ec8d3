"""What the result tables hold of one user, or of the rows of one id."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, qualified, time_is
from connectors.clickhouse.schema.tables import AUDIT, AUGMENTED, DEAD_LETTERS, LABELED
from streams.privacy.erasure import ERASED_ID, Kind

# As ClickHouse calculates it, so that no id stands in a statement that changes a table: those are kept in
# `system.mutations`.
ROW_HASH = "cityHash64(row_id, toUnixTimestamp64Micro(created_at))"
LETTER_HASH = "cityHash64(toString(_topic_id), _partition, _offset)"
TARGET_HASH = "cityHash64(target)"
# Numbers of twenty digits in one bound value.
_AT_ONCE = 2_500
NOT_ERASED = f"NOT startsWith(row_id, '{ERASED_ID}')"


class FoundRow(NamedTuple):
    """A row: its id, its time in microseconds since 1970, its text, and its hash by ROW_HASH."""

    row_id: str
    micros: int
    text: str
    hash: int


class Found(NamedTuple):
    """What is to be changed in a table: the times and the hashes of its rows, and how many they are."""

    times: list[int]
    hashes: list[int]
    rows: int


@dataclass(frozen=True)
class Person:
    """Whose rows: a user's under each of ``ids``, the plain one and its pseudonyms, or those with one id."""

    kind: Kind
    ids: Sequence[str]

    @property
    def condition(self) -> str:
        column = "user_id" if self.kind == "user" else "row_id"
        return f"{column} IN {{ids:Array(String)}} AND {NOT_ERASED}"

    async def rows(self, client: ClickHouseClient, database: str) -> list[FoundRow]:
        """The rows of theirs that have a label or variants.

        Raises:
            UnavailableError, ConfigurationError: as the client.
        """
        found: dict[tuple[str, int], FoundRow] = {}
        for table in (LABELED, AUGMENTED):
            for row_id, micros, text, number in await client.rows(
                f"SELECT row_id, toUnixTimestamp64Micro(created_at), any(text), {ROW_HASH}\n"
                f"FROM {qualified(database, table)} WHERE {self.condition}\nGROUP BY row_id, created_at",
                {"ids": list(self.ids)},
            ):
                found[str(row_id), int(micros)] = FoundRow(str(row_id), int(micros), str(text), int(number))
        return sorted(found.values(), key=lambda row: (row.micros, row.row_id))

    async def letters(
        self, client: ClickHouseClient, database: str, rows: Iterable[FoundRow]
    ) -> tuple[Found, list[str]]:
        """Dead letters of theirs: by what was received, and by the ids of ``rows`` where that names nobody.
        Also the ids of the rows that only letters know.
        """
        field = "user_id" if self.kind == "user" else "row_id"
        received = f"JSONExtractString(payload, '{field}')"
        # What is no JSON has its fields nowhere, but may have the id in it.
        needles = {json.dumps(one, ensure_ascii=ascii) for one in self.ids for ascii in (True, False)}
        times, hashes, ids, count = set[int](), set[int](), set[str](), 0
        wanted = {row.row_id for row in rows} | (set(self.ids) if self.kind == "row" else set())
        batches = [*bound_batches(sorted(wanted), str)] or [[]]
        for some in batches:
            for micros, number, row_id in await client.rows(
                f"SELECT toUnixTimestamp64Micro(failed_at), {LETTER_HASH}, row_id\n"
                f"FROM {qualified(database, DEAD_LETTERS)}\n"
                f"WHERE {NOT_ERASED} AND ({received} IN {{ids:Array(String)}}\n"
                f"    OR ({received} = '' AND row_id IN {{rows:Array(String)}})\n"
                "    OR (NOT isValidJSON(payload)\n"
                "        AND arrayExists(one -> position(payload, one) > 0, {needles:Array(String)})))",
                {"ids": list(self.ids), "rows": some, "needles": sorted(needles)},
            ):
                if int(number) not in hashes:
                    times.add(int(micros))
                    hashes.add(int(number))
                    ids.add(str(row_id))
                    count += 1
        return Found(sorted(times), sorted(hashes), count), sorted(ids - {"", *(row.row_id for row in rows)})

    async def namesakes(self, client: ClickHouseClient, database: str) -> list[str]:
        """Of a row: the ids of others that had the same one in the source table, `42~…`, some of them."""
        if self.kind == "user":
            return []
        rows = await client.rows(
            f"SELECT DISTINCT row_id FROM {qualified(database, LABELED)}\n"
            "WHERE startsWith(row_id, {start:String}) LIMIT 10",
            {"start": f"{self.ids[0]}~"},
        )
        return sorted(str(row_id) for (row_id,) in rows)


async def other_generations(client: ClickHouseClient, database: str, known: Collection[int]) -> list[int]:
    """The generations of `PRIVACY_SECRET` that the tables have pseudonyms of, without those ``known``.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: set[int] = set()
    for table in (LABELED, AUGMENTED):
        rows = await client.rows(
            "SELECT DISTINCT toUInt32OrZero(\n"
            "    extract(ifNull(user_id, ''), '^p([1-9][0-9]{0,3}):[0-9a-f]{32}$'))\n"
            f"FROM {qualified(database, table)} WHERE startsWith(user_id, 'p')"
        )
        found.update(int(number) for (number,) in rows)
    return sorted(found - {0, *known})


async def count_of(client: ClickHouseClient, database: str, table: str, rows: Sequence[FoundRow]) -> int:
    """How many lines ``table`` has for ``rows``: labels, variants or answers."""
    count = 0
    for found in pieces(Found([row.micros for row in rows], [row.hash for row in rows], len(rows))):
        condition, given = at_rows(found)
        answer = await client.rows(
            f"SELECT count() FROM {qualified(database, table)} WHERE {NOT_ERASED} AND {condition}", given
        )
        count += int(answer[0][0])
    return count


async def audited(client: ClickHouseClient, database: str, row_ids: Sequence[str]) -> list[int]:
    """The hashes, by TARGET_HASH, of those of ``row_ids`` that the audit log names."""
    found: set[int] = set()
    for some in bound_batches(sorted(set(row_ids)), str):
        found.update(
            int(number)
            for (number,) in await client.rows(
                f"SELECT DISTINCT {TARGET_HASH} FROM {qualified(database, AUDIT)}\n"
                "WHERE target IN {ids:Array(String)}",
                {"ids": some},
            )
        )
    return sorted(found)


def at_rows(found: Found, time: str = "created_at", row: str = ROW_HASH) -> tuple[str, dict[str, Any]]:
    """The condition for ``found`` in a table, and its parameters. The times are there for the index."""
    bounds = f"{time_is('>=', 'first', time)} AND {time_is('<=', 'last', time)}"
    given = {"first": min(found.times), "last": max(found.times), "hashes": found.hashes}
    return f"{bounds} AND {row} IN {{hashes:Array(UInt64)}}", given


def pieces(found: Found) -> list[Found]:
    """``found`` in parts whose hashes can be bound, in order of time."""
    if len(found.hashes) <= _AT_ONCE:
        return [found] if found.hashes else []
    # Only those of one time each would make the bounds narrow; the bounds of all are as right.
    starts = range(0, len(found.hashes), _AT_ONCE)
    return [Found(found.times, found.hashes[start : start + _AT_ONCE], 0) for start in starts]
