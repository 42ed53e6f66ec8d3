"""The result tables, made from the message classes.

Each stored row has its position in Kafka (`_topic_id`, `_partition`, `_offset`). So the content of a table
for a partition is known as a set of offsets, which makes the sink exact.

No PARTITION BY: an insert makes one part and is stored whole or not at all, and no date, however odd,
can make one fail. ReplacingMergeTree is the last line only: messages are inserted once, and should the
same one ever be inserted twice, a merge takes the second away. The sorting key therefore ends with the
message's place. Without it a merge would remove one of two labels of a row and version; the sink would then
find the offset missing and insert that label again.
"""

from __future__ import annotations

import re

from pydantic import BaseModel

from connectors.clickhouse.client.sql import literal, quoted
from connectors.clickhouse.schema.columns import ADDED, STORED_AT, TableColumn, columns_of
from connectors.clickhouse.schema.placement import PLAIN, Placement
from connectors.clickhouse.schema.projections import LABEL_PLACES, MODES, ROW_TIMES, STORED_PLACES
from streams.core.errors import ConfigurationError
from streams.core.messages import Augmented, DeadLetter, HumanLabel
from streams.ports.audit import AuditEntry
from streams.ports.review import ReviewAnswer

LABELED, AUGMENTED, DEAD_LETTERS = "logs_labeled", "logs_augmented", "dead_letters"
VERSIONS = "label_versions"
AUDIT = "audit_log"
ANSWERS = "review_answers"
ERASURES = "erasures"
CURRENT = "logs_labeled_current"

# How long an insert into a stored table may take. Shorter than the group's session of 6 s: what an expelled
# owner had begun has ended when that is over.
INSERT_SECONDS = 4

# What each stored table holds, and in which order. A range of times is then a range of the table.
STORED: dict[str, tuple[type[BaseModel], str]] = {
    LABELED: (HumanLabel, "created_at, row_id, label_version"),
    AUGMENTED: (Augmented, "created_at, row_id, label_version, augment_model"),
    DEAD_LETTERS: (DeadLetter, "failed_at"),
}
PROJECTIONS: dict[str, dict[str, str]] = {
    LABELED: {"label_places": LABEL_PLACES, "row_times": ROW_TIMES},
    AUGMENTED: {"stored_places": STORED_PLACES},
    DEAD_LETTERS: {},
}
# The position of a message; the end of each stored table's sorting key.
MESSAGE_PLACE = ("_topic_id", "_partition", "_offset")

# What a clause of a replicated table begins with.
_DEFAULT_PATH = "('/clickhouse/tables/{uuid}/{shard}', '{replica}')"
_PATH = re.compile(r"^(Replicated\w+\()'(?:[^'\\]|\\.)*'")

# Added after 0.1.0.
LIVE_COLUMN = "`live` Bool DEFAULT false COMMENT 'a trial that labels live rows: shown where nothing else is'"
_VERSION_COLUMNS = f"""\
    `version` String COMMENT 'name of the label version',
    `model` String COMMENT 'the labelling model',
    `prompt` String COMMENT 'digest of the prompt',
    `taxonomy` String COMMENT 'digest of the taxonomy',
    `mode` String COMMENT 'how the label is asked for',
    `status` LowCardinality(String) COMMENT 'promoted, trial or retired',
    `promoted_at` DateTime64(6, 'UTC') COMMENT 'the newest promoted version of a row is its current one',
    `created_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when the version was first registered',
    `changed_at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts',
    {LIVE_COLUMN}"""

_ERASURE_COLUMNS = """\
    `kind` LowCardinality(String) COMMENT 'user or row',
    `digest` String COMMENT 'keyed hash of the id',
    `key` String COMMENT 'what it was hashed with: a salt, or a generation of PRIVACY_SECRET',
    `until` DateTime64(6, 'UTC') COMMENT 'rows up to this time are erased, UTC',
    `nonce` String COMMENT 'while it goes on: what the ids of what is left are made with',
    `at` DateTime64(6, 'UTC') DEFAULT now64(6) COMMENT 'when it was written, the last counts'"""

# Rows that are read for one that is asked for: an eighth of ClickHouse's own number. 100,000,000 rows have
# 100,000 pieces, of which the server keeps some ten megabytes in memory. Compressed in blocks of a piece
# instead of eight: labels of rows that lie apart cost less than half, and the table a tenth more disk.
_PIECES = "index_granularity = 1024, min_compress_block_size = 8192"

# For one row by its id, as people ask for it, and for single offsets.
_INDEXES = (
    "    INDEX by_row row_id TYPE bloom_filter(0.001) GRANULARITY 1",
    "    INDEX by_offset _offset TYPE minmax GRANULARITY 1",
)


def column_definition(column: TableColumn) -> str:
    """A column's definition for CREATE and ALTER TABLE."""
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    default = f" DEFAULT {column.default}" if column.default else ""
    return f"{quoted(column.name)} {column.type}{default}{comment}"


def stored_table(database: str, name: str, placement: Placement = PLAIN, *, projections: bool = True) -> str:
    """The statement that creates one of STORED."""
    made = PROJECTIONS[name] if projections else {}
    message, key = STORED[name]
    columns = [*(column_definition(column) for column in (*columns_of(message), *ADDED)), STORED_AT]
    lines = [*(f"    {definition}" for definition in columns), *_INDEXES]
    lines += [f"    PROJECTION {quoted(one)} (\n    {select}\n    )" for one, select in made.items()]
    # The position distinguishes copies when parts are merged; the index in memory does not need it.
    primary = "" if name == DEAD_LETTERS else f"PRIMARY KEY ({key})\n"
    return (
        f"CREATE TABLE IF NOT EXISTS {placement.name(database, name)} (\n"
        + ",\n".join(lines)
        + f"\n) ENGINE = {placement.engine(database, name, 'ReplacingMergeTree')}\n"
        + f"{primary}ORDER BY ({', '.join((key, *MESSAGE_PLACE))})"
        + f"\nSETTINGS {_PIECES}"
        + (f", {MODES}" if made else "")
    )


def columns_in(key: str) -> list[str]:
    """The columns of a sorting key."""
    return [column.strip() for column in key.split(",")]


def with_place(columns: list[str]) -> list[str]:
    """``columns``, and those of the message's place that are not among them."""
    return [*columns, *(column for column in MESSAGE_PLACE if column not in columns)]


def new_engine(engine: str, key: str, path: str = "") -> str:
    """The ENGINE clause for a table with the clause ``engine`` and the sorting key ``key``: sorted by the
    message's place too. The primary key, and so the size of the index in memory, stays the same. ``path``: in
    the Keeper, of a replicated table outside a Replicated database.

    Raises:
        ConfigurationError: the clause is not as ClickHouse writes it.
    """
    columns = columns_in(key)
    if path:
        engine, found = _PATH.subn(lambda begin: begin[1] + literal(path), engine)
    else:
        # A Replicated database adds the default path itself, and refuses it when it is given.
        engine, found = engine.replace(_DEFAULT_PATH, ""), 1
    old = f"ORDER BY ({key})" if len(columns) > 1 else f"ORDER BY {key}"
    if engine.count(old) != 1 or not found:
        raise ConfigurationError(
            f"the sorting key of a result table cannot be read: {engine}",
            setting="CLICKHOUSE_RESULT_DATABASE",
            fix="make the table as labelstream describe ddl shows it, and copy its rows",
        )
    primary = "" if "PRIMARY KEY" in engine else f"PRIMARY KEY ({key}) "
    return engine.replace(old, f"{primary}ORDER BY ({', '.join(with_place(columns))})")


def versions_table(database: str, placement: Placement = PLAIN) -> str:
    """The statement that creates the log of label versions."""
    # A log of changes: one INSERT is one change, so a promotion is atomic, and the history is kept.
    return (
        f"CREATE TABLE IF NOT EXISTS {placement.name(database, VERSIONS)} (\n{_VERSION_COLUMNS}\n"
        f") ENGINE = {placement.engine(database, VERSIONS, 'MergeTree')}\nORDER BY (version, changed_at)"
    )


def audit_table(database: str, placement: Placement = PLAIN) -> str:
    """The statement that creates the audit log."""
    return _log(database, AUDIT, AuditEntry, "at", placement)


def answers_table(database: str, placement: Placement = PLAIN) -> str:
    """The statement that creates the table of reviewers' answers without a label."""
    return _log(database, ANSWERS, ReviewAnswer, "(created_at, row_id)", placement)


def erasures_table(database: str, placement: Placement = PLAIN) -> str:
    """The statement that creates the list of what was erased."""
    return (
        f"CREATE TABLE IF NOT EXISTS {placement.name(database, ERASURES)} (\n{_ERASURE_COLUMNS}\n"
        f") ENGINE = {placement.engine(database, ERASURES, 'ReplacingMergeTree(at)')}\n"
        "ORDER BY (kind, digest, key)"
    )


def _log(database: str, table: str, entry: type[BaseModel], key: str, placement: Placement) -> str:
    lines = ",\n".join(f"    {column_definition(column)}" for column in columns_of(entry))
    return (
        f"CREATE TABLE IF NOT EXISTS {placement.name(database, table)} (\n{lines}\n"
        f") ENGINE = {placement.engine(database, table, 'MergeTree')}\nORDER BY {key}"
    )
