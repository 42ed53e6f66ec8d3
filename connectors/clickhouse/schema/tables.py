"""The result tables and the current view, made from the message classes (`labelstream describe ddl`).

Each stored row keeps its place in Kafka (`_topic_id`, `_partition`, `_offset`): what a table holds of
a partition is then known as a set of offsets, which is what makes the sink exact.

No PARTITION BY: an insert makes one part and is stored whole or not at all, and no date, however odd,
can make one fail. ReplacingMergeTree is the last line only: rows are inserted once, and should the
same one ever be inserted twice, a merge takes the second away, because the sorting key holds nothing
that changes for a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import structlog
from pydantic import BaseModel

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, quoted
from connectors.clickhouse.schema.columns import PLACE, STORED_AT, TableColumn, columns_of
from streams.core.label_version import HUMAN
from streams.core.messages import Augmented, DeadLetter, Labeled
from streams.core.settings import Settings
from streams.ports.audit import AuditEntry

log = structlog.get_logger()

LABELED, AUGMENTED, DEAD_LETTERS = "logs_labeled", "logs_augmented", "dead_letters"
VERSIONS = "label_versions"
AUDIT = "audit_log"
CURRENT = "logs_labeled_current"

# What each stored table holds, and in which order. A range of times is then a range of the table.
STORED: dict[str, tuple[type[BaseModel], str]] = {
    LABELED: (Labeled, "created_at, row_id, label_version"),
    AUGMENTED: (Augmented, "created_at, row_id, label_version, augment_model"),
    DEAD_LETTERS: (DeadLetter, "failed_at, _topic_id, _partition, _offset"),
}

_VERSION_COLUMNS = """\
    `version` String COMMENT 'name of the label version',
    `model` String COMMENT 'the labelling model',
    `prompt` String COMMENT 'digest of the prompt',
    `taxonomy` String COMMENT 'digest of the taxonomy',
    `mode` String COMMENT 'how the label is asked for',
    `status` LowCardinality(String) COMMENT 'promoted, trial or retired',
    `promoted_at` DateTime64(6, 'UTC') COMMENT 'the newest promoted version of a row is its current one',
    `created_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when the version was first registered',
    `changed_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts'"""

# For one row by its id, and for what is stored of a partition since an offset.
_INDEXES = (
    "    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1",
    "    INDEX by_offset _offset TYPE minmax GRANULARITY 1",
)


def statements(database: str) -> list[str]:
    """Every statement that makes the result database, in order; each is idempotent."""
    return [
        f"CREATE DATABASE IF NOT EXISTS {quoted(database)}",
        *(_table(database, name) for name in STORED),
        _versions(database),
        _audit(database),
        _current(database),
    ]


def describe_ddl(settings: Settings) -> str:
    """All statements, as one would run them by hand."""
    return ";\n\n".join(statements(settings.result_database)) + ";\n"


async def create_tables(client: ClickHouseClient, settings: Settings) -> None:
    """Make what is missing: the database, tables, columns that a later release added, the view.

    Raises:
        UnavailableError: ClickHouse does not answer.
        AccessError: the user may not create.
    """
    database = settings.result_database
    if not await client.rows("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": database}):
        await client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
    present = await _present(client, database)
    for name in STORED:
        if name not in present:
            await client.command(_table(database, name))
        else:
            await _add_columns(client, database, name, present[name])
    if VERSIONS not in present:
        await client.command(_versions(database))
    if AUDIT not in present:
        await client.command(_audit(database))
    await _replace_view(client, database)


def _definition(column: TableColumn) -> str:
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    return f"{quoted(column.name)} {column.type}{comment}"


def _definitions(table: str) -> list[str]:
    message, _ = STORED[table]
    return [*(_definition(column) for column in (*columns_of(message), *PLACE)), STORED_AT]


def _table(database: str, name: str) -> str:
    lines = [*(f"    {definition}" for definition in _definitions(name)), *_INDEXES]
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{quoted(name)} (\n"
        + ",\n".join(lines)
        + f"\n) ENGINE = ReplacingMergeTree\nORDER BY ({STORED[name][1]})"
    )


def _versions(database: str) -> str:
    # A log of changes: one INSERT is one change, so promotion is atomic, and its history stays.
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{quoted(VERSIONS)} (\n{_VERSION_COLUMNS}\n"
        ") ENGINE = MergeTree\nORDER BY (version, changed_at)"
    )


def _audit(database: str) -> str:
    lines = ",\n".join(f"    {_definition(column)}" for column in columns_of(AuditEntry))
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(database)}.{quoted(AUDIT)} (\n{lines}\n"
        ") ENGINE = MergeTree\nORDER BY at"
    )


def _current(database: str, *, replace: bool = False) -> str:
    body = _current_body(database)
    verb = "CREATE OR REPLACE VIEW" if replace else "CREATE VIEW IF NOT EXISTS"
    return f"{verb} {quoted(database)}.{quoted(CURRENT)} AS\n{body}\nCOMMENT {literal(_digest(body))}"


def _current_body(database: str) -> str:
    """The newest promoted version of each row; before all of them what a person said last.

    Grouped by the beginning of the sorting key: filters on `created_at` and `row_id` go below the
    aggregation, on old servers too. One argMax a column, so that only the columns asked for are read,
    and the rank is a plain number, on which argMax is fast. argMax passes over nulls unless they are
    wrapped. A version that nobody registered has rank 0: its rows are shown where there is no better.
    Ranks are places, not times: versions promoted in the same microsecond must not be mixed in one row.

    A view, by measurement (`bench/current_view.py`, 10,000,000 rows and a tenth in a second version): a day's
    rows in 0.07 s, one row 0.05, labels of a month 0.38, count() of all 1.1. A materialised table answers in
    0.02, 0.03, 0.05 and 0.01, but takes a minute to be made anew at each promotion; FINAL on a table with one
    label a row takes 0.02, 0.03, 0.16 and 0.46, and keeps no history.
    See docs/internals/adr/0005-current-view.md.
    """
    keys = ("created_at", "row_id")
    others = [column for column in columns_of(Labeled) if column.name not in keys]
    renamed = ",\n        ".join(f"{quoted(column.name)} AS {quoted('_' + column.name)}" for column in others)
    picked = {key: quoted(key) for key in keys}
    for column in others:
        inner = quoted("_" + column.name)
        best = (
            f"tupleElement(argMax(tuple({inner}), _rank), 1)"
            if column.nullable
            else f"argMax({inner}, _rank)"
        )
        picked[column.name] = f"{best} AS {quoted(column.name)}"
    lines = ",\n    ".join(picked[column.name] for column in columns_of(Labeled))
    return f"""\
WITH (
    SELECT (groupArray(version), groupArray(rank))
    FROM (
        SELECT version, if(status = 'promoted', toInt64(place), toInt64(-1)) AS rank
        FROM (
            SELECT version, tupleElement(last, 1) AS status,
                row_number() OVER (ORDER BY tupleElement(last, 2), version) AS place
            FROM (
                SELECT version, argMax(tuple(status, promoted_at), changed_at) AS last
                FROM {quoted(database)}.{quoted(VERSIONS)}
                GROUP BY version
            )
        )
        UNION ALL SELECT '' AS version, toInt64(0) AS rank
    )
) AS ranks
SELECT
    {lines}
FROM (
    SELECT
        created_at,
        row_id,
        {renamed},
        if(
            label_version = {literal(HUMAN)},
            toUnixTimestamp64Micro(labeled_at),
            transform(toString(label_version), tupleElement(ranks, 1), tupleElement(ranks, 2), toInt64(0))
        ) AS _rank
    FROM {quoted(database)}.{quoted(LABELED)}
    WHERE _rank >= 0
)
GROUP BY created_at, row_id
SETTINGS optimize_aggregation_in_order = 1"""


def _digest(text: str) -> str:
    return "labelstream " + blake2b(text.encode(), digest_size=8).hexdigest()


async def _present(client: ClickHouseClient, database: str) -> dict[str, set[str]]:
    """The tables that are there, with their columns."""
    rows = await client.rows(
        "SELECT table, name FROM system.columns WHERE database = {database:String}", {"database": database}
    )
    present: dict[str, set[str]] = {}
    for table, column in rows:
        present.setdefault(table, set()).add(column)
    return present


async def _add_columns(client: ClickHouseClient, database: str, table: str, have: set[str]) -> None:
    message, _ = STORED[table]
    previous = ""
    for column in (*columns_of(message), *PLACE):
        if column.name not in have:
            place = f" AFTER {quoted(previous)}" if previous else " FIRST"
            await client.command(
                f"ALTER TABLE {quoted(database)}.{quoted(table)} "
                f"ADD COLUMN IF NOT EXISTS {_definition(column)}{place}"
            )
            log.info("column_added", table=table, column=column.name)
        previous = column.name


async def _replace_view(client: ClickHouseClient, database: str) -> None:
    """Make the view, or put this release's in its place. A view of the same text is left alone."""
    found = await client.rows(
        "SELECT comment FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": database, "name": CURRENT},
    )
    if found and found[0][0] == _digest(_current_body(database)):
        return
    await client.command(_current(database, replace=bool(found)))


def names_of(columns: Sequence[TableColumn]) -> list[str]:
    """The names of ``columns``."""
    return [column.name for column in columns]
