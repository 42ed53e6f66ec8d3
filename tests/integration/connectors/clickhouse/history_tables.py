"""Tables of a long history, filled by the engine itself: see ``history_scale.py``."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from connectors.clickhouse.client.client import ClickHouseClient

LABELED, AUGMENTED, LETTERS, UNUSED = (uuid.UUID(int=number) for number in (1, 2, 3, 4))
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
# Rows of an insert, and so of a part: merges leave parts of this size and larger.
SLICE = 5_000_000
# Rows with a human label, whatever the size of the tables: people answer so many, not a share of all rows.
ANSWERS = 5_000
PARTITIONS = 4


def time_of(number: int) -> datetime:
    """The time of a row: ten a second."""
    return FIRST + timedelta(milliseconds=100 * number)


async def fill(client: ClickHouseClient, database: str, rows: int) -> None:
    """The tables, ten rows a second of time: two versions, variants, human labels, dead letters. Goes on
    where one that was stopped has ended: an insert is stored whole or not at all.
    """
    message = (
        "toString({n}) AS row_id, concat('вопрос номер ', toString({n} % 200000)) AS text, "
        f"addMilliseconds(toDateTime64('{FIRST:%Y-%m-%d %H:%M:%S}', 6, 'UTC'), {{n}} * 100) AS created_at, "
        "created_at AS polled_at, concat('label', toString({n} % 12)) AS label, "
        "toFloat64(({n} * 7919) % 1000) / 1000 AS confidence, addSeconds(created_at, 1) AS labeled_at"
    )
    place = (
        "'{topic}' AS _topic, toUUID('{id}') AS _topic_id, {n} % 4 AS _partition, intDiv({n}, 4) AS _offset"
    )
    names = "row_id, text, created_at, polled_at, label, confidence, labeled_at"
    places = "_topic, _topic_id, _partition, _offset"

    async def put(
        table: str, more: dict[str, str], number: str, topic: tuple[str, uuid.UUID], count: int, where: str
    ) -> None:
        where_is = f"{database}.{table} WHERE label_version = {more['label_version']}"
        there = int((await client.rows(f"SELECT count() FROM {where_is}"))[0][0])
        for start in range(there, count, SLICE):
            await client.command(
                f"INSERT INTO {database}.{table} ({names}, {', '.join(more)}, {places})\n"
                f"SELECT {message.format(n=number)}, {', '.join(more.values())}, "
                f"{place.format(topic=topic[0], id=topic[1], n=where)}\n"
                f"FROM numbers({start}, {min(SLICE, count - start)}) "
                "SETTINGS max_insert_threads = 1, max_threads = 2, "
                f"min_insert_block_size_rows = {SLICE}, min_insert_block_size_bytes = 0"
            )

    for count, number, version, model, where in (
        (rows, "number", "v1", "m1", "number"),
        (rows // 10, "number * 10", "v2", "m2", f"(number + {rows})"),
        (
            ANSWERS,
            f"(number * {rows // ANSWERS} + 7)",
            "human",
            "human:anna",
            f"(number + {rows + rows // 10})",
        ),
    ):
        more = {"label_version": f"'{version}'", "model": f"'{model}'"}
        await put("logs_labeled", more, number, ("t.labeled", LABELED), count, where)
    more = {
        "label_version": "'v1'",
        "model": "'m1'",
        "variants": "['a', 'b', 'c']",
        "augment_model": "'m3'",
        "augmented_at": "addSeconds(created_at, 2)",
    }
    await put("logs_augmented", more, "number * 10", ("t.augmented", AUGMENTED), rows // 10, "number")
    if int((await client.rows(f"SELECT count() FROM {database}.dead_letters"))[0][0]):
        return
    await client.command(
        f"INSERT INTO {database}.dead_letters (row_id, step, reason, error, attempts, failed_at, topic, "
        f"partition, offset, payload, {places})\nSELECT toString(number * 1000 + 3), "
        "if(number % 3 = 0, 'augment', 'label'), concat('reason', toString(number % 5)), 'no answer', 3, "
        f"addSeconds(toDateTime64('{FIRST:%Y-%m-%d %H:%M:%S}', 6, 'UTC'), number * 100), 't.rows',\n"
        f"    number % 4, number, repeat('x', 300), 't.dead-letter', toUUID('{LETTERS}'), number % 4, "
        f"intDiv(number, 4)\nFROM numbers({rows // 1000})"
    )
