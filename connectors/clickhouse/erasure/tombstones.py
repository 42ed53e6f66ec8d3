"""What is left of an erased row: its label, its day and its place in Kafka, and nothing that names anybody.

The counts by label and day stay right, in every query that counts, and the sink finds each message where it
stored it: read again, it is not stored again.

First the tombstones are inserted, then the rows are deleted. Cut off in between, the next erasure of the same
person makes the same tombstones, finds those that are there, and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, qualified, quoted
from connectors.clickhouse.erasure.mutation import mutate
from connectors.clickhouse.erasure.person import (
    LETTER_HASH,
    NOT_ERASED,
    ROW_HASH,
    TARGET_HASH,
    Found,
    at_rows,
    pieces,
)
from connectors.clickhouse.schema.columns import PLACE, columns_of
from connectors.clickhouse.schema.tables import ANSWERS, AUDIT, AUGMENTED, DEAD_LETTERS, LABELED
from streams.core.label_version import HUMAN
from streams.core.messages import Augmented, DeadLetter, HumanLabel
from streams.ports.review import ReviewAnswer
from streams.privacy.erasure import ERASED_ID, ERASED_TEXT


def _day(column: str) -> str:
    return f"toDateTime64(toDate32({column}, 'UTC'), 6, 'UTC')"


def _made_of(row: str) -> str:
    """Of a nonce that is forgotten: a row's labels stay together, and nobody can tell whose they are."""
    return f"SHA256(concat({{nonce:String}}, toString({row})))"


def _id_of(row: str) -> str:
    return f"concat({literal(ERASED_ID)}, lower(hex(substring({_made_of(row)}, 1, 16))))"


def _in_order(column: str) -> str:
    """The day, and microseconds by which the newest label of a row and version is still the newest."""
    rank = f"row_number() OVER (PARTITION BY row_id, created_at, label_version ORDER BY {column}, _offset)"
    return f"addMicroseconds({_day(column)}, {rank})"


# At midnight all of them would stand in one minute, of which a sample has all or nothing. A row of today
# stays there, or it would be of the future.
_SECOND = f"reinterpretAsUInt32(substring({_made_of(ROW_HASH)}, 17, 4)) % 86400"
_IS_OF_TODAY = "toDate32(created_at, 'UTC') >= toDate32(now(), 'UTC')"
_SPREAD = f"addSeconds({_day('created_at')}, if({_IS_OF_TODAY}, 0, {_SECOND}))"

_ROW_ID = _id_of(ROW_HASH)
# Not the moment of the erasure, which would say whose it was; and it is not kept for longer.
_STORED_DAY = "toDateTime64(toDate32(_stored_at, 'UTC'), 3, 'UTC')"
_ROW = {
    "row_id": _ROW_ID,
    "text": literal(ERASED_TEXT),
    "created_at": _SPREAD,
    "_stored_at": _STORED_DAY,
    "user_id": "NULL",
    "session_id": "NULL",
    "polled_at": _day("polled_at"),
    # When a person labelled it stays: of several such labels the last one counts.
    "labeled_at": f"if(label_version = {literal(HUMAN)}, labeled_at, {_in_order('labeled_at')})",
}
_VARIANTS = {**_ROW, "variants": "[]", "rejected": "[]", "augmented_at": _in_order("augmented_at")}
_LETTER = {
    "row_id": _id_of(LETTER_HASH),
    "_stored_at": _STORED_DAY,
    "error": "''",
    "failed_at": _day("failed_at"),
    "topic": "''",
    "partition": "-1",
    "offset": "-1",
    "payload": "''",
}
_ANSWER = {name: _ROW[name] for name in ("row_id", "text", "created_at")}

# Of each table: its columns, what changes in them, the time in its key, a row's hash, and what tells one line
# of a row from another.
_TABLES: dict[str, tuple[tuple[str, ...], Mapping[str, str], str, str, str]] = {
    table: (
        (*(column.name for column in (*columns_of(message), *places)), *(("_stored_at",) if places else ())),
        changed,
        time,
        row,
        line,
    )
    for table, message, places, changed, time, row, line in (
        (LABELED, HumanLabel, PLACE, _ROW, "created_at", ROW_HASH, LETTER_HASH),
        (AUGMENTED, Augmented, PLACE, _VARIANTS, "created_at", ROW_HASH, LETTER_HASH),
        (DEAD_LETTERS, DeadLetter, PLACE, _LETTER, "failed_at", LETTER_HASH, LETTER_HASH),
        (ANSWERS, ReviewAnswer, (), _ANSWER, "created_at", ROW_HASH, "cityHash64(who, answered_at, answer)"),
    )
}


async def replace_rows(client: ClickHouseClient, database: str, table: str, found: Found, nonce: str) -> None:
    """Replace ``found`` in ``table`` by what may be left of it. When it returns, the rows are gone.

    Raises:
        UnavailableError: ClickHouse does not answer, or cannot delete; erase again.
        AccessError: the user may not ALTER DELETE.
    """
    columns, changed, time, row, line = _TABLES[table]
    name = qualified(database, table)
    selected = ", ".join(
        f"{changed[column]} AS {quoted('new_' + column)}" if column in changed else quoted(column)
        for column in columns
    )
    for some in pieces(found):
        condition, given = at_rows(some, time, row)
        condition = f"{NOT_ERASED} AND {condition}"
        there = (
            f"SELECT row_id, {line} FROM {name} WHERE row_id IN (\n"
            f"    SELECT {changed['row_id']} FROM {name} WHERE {condition}\n)"
        )
        await client.command(
            f"INSERT INTO {name} ({', '.join(map(quoted, columns))})\nSELECT {selected}\nFROM {name}\n"
            f"WHERE {condition} AND ({changed['row_id']}, {line}) NOT IN (\n{there}\n)",
            {**given, "nonce": nonce},
        )
        await mutate(client, database, table, f"DELETE WHERE {condition}", given)


async def forget_targets(client: ClickHouseClient, database: str, hashes: list[int]) -> None:
    """Take the ids of rows, given by TARGET_HASH, out of the audit log; the actions stay. Raises as
    `replace_rows`.
    """
    for some in pieces(Found([], hashes, 0)):
        await mutate(
            client,
            database,
            AUDIT,
            f"UPDATE target = {literal(ERASED_ID)} WHERE {TARGET_HASH} IN {{hashes:Array(UInt64)}}",
            {"hashes": some.hashes},
        )
