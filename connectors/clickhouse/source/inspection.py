"""Looks up the source table, and refuses one that cannot be read so that each row is read once."""

from __future__ import annotations

import re
from dataclasses import dataclass

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified, quoted
from connectors.clickhouse.source.shape import Shape, SourceColumn, prefix_beside
from connectors.clickhouse.source.shards import INDIRECT, reading_settings
from connectors.clickhouse.source.times import TimeColumn
from connectors.clickhouse.source.types import bare, holds_names, holds_text
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

log = structlog.get_logger()

# Reading takes the rows away from other readers; rows are made up at each reading; no rows are stored.
_TAKES = {"Kafka", "RabbitMQ", "NATS", "FileLog", "S3Queue", "AzureQueue"}
_INVENTS = {
    "GenerateRandom",
    "FuzzJSON",
    "FuzzQuery",
    "Executable",
    "ExecutablePool",
    "LiveView",
    "WindowView",
}
_FORGETS = {"Null", "Set"}
# Merges replace several rows by one.
_MERGES = re.compile(
    r"^(?:Replicated|Shared)?"
    r"(?:Replacing|Collapsing|VersionedCollapsing|Summing|Aggregating|Graphite|Coalescing)MergeTree$"
)
_KEY_PART = re.compile(r"`[^`\\]+`|\w+")
_PLAIN_KEY = re.compile(rf"^(?:{_KEY_PART.pattern})(?:, (?:{_KEY_PART.pattern}))*$")
_CALL_THAT_VARIES = re.compile(
    r"\b(?:now|today|yesterday|rand|generate|rowNumber|serial|currentT)\w*\(", re.I
)


@dataclass(frozen=True)
class FoundColumn:
    """``kind``: DEFAULT, MATERIALIZED, ALIAS, EPHEMERAL or empty; ``expression``: how it is computed."""

    type: str
    kind: str
    expression: str


@dataclass(frozen=True)
class FoundTable:
    """A table. ``key``, ``partition``, ``engine_full``: its sorting and partition key and its engine with
    arguments, as system.tables shows them.
    """

    name: str
    engine: str
    key: str
    columns: dict[str, FoundColumn]
    partition: str = ""
    engine_full: str = ""

    @property
    def types(self) -> dict[str, str]:
        """The columns' types by name."""
        return {name: column.type for name, column in self.columns.items()}

    @property
    def indirect(self) -> bool:
        """Whether it reads from other tables, which may merge."""
        return self.engine in INDIRECT

    @property
    def merges(self) -> bool:
        """Whether merges replace several rows by one."""
        return _MERGES.match(self.engine) is not None

    def may_vary(self, column: str) -> bool:
        """Whether a column's value may differ between two readings of the same row."""
        found = self.columns[column]
        return found.kind == "ALIAS" or _CALL_THAT_VARIES.search(found.expression) is not None


async def look_up(client: ClickHouseClient, settings: Settings) -> FoundTable:
    """The source table of the settings.

    Raises:
        ConfigurationError: there is none that the user may see.
    """
    name = f"{settings.clickhouse_database}.{settings.clickhouse_table}"
    given = {"db": settings.clickhouse_database, "table": settings.clickhouse_table}
    columns = await client.rows(
        "SELECT name, type, default_kind, default_expression FROM system.columns "
        "WHERE database = {db:String} AND table = {table:String} ORDER BY position",
        given,
    )
    tables = await client.rows(
        "SELECT engine, sorting_key, partition_key, engine_full FROM system.tables "
        "WHERE database = {db:String} AND name = {table:String}",
        given,
    )
    if tables and not columns:
        raise ConfigurationError(
            f"{name} has no columns that the user may see; a view with parameters has none",
            setting="CLICKHOUSE_TABLE",
            fix="grant the user SHOW COLUMNS, or name a table, or a view without parameters",
        )
    if not columns:
        raise ConfigurationError(
            f"there is no table {name}, or the user may not see it",
            setting="CLICKHOUSE_TABLE",
            fix="set CLICKHOUSE_DATABASE and CLICKHOUSE_TABLE to the table with the queries",
        )
    engine, key, partition, full = tables[0] if tables else ("", "", "", "")
    made = {column: FoundColumn(*rest) for column, *rest in columns}
    return FoundTable(name, engine, key, made, partition, full)


def shape_of(settings: Settings, found: FoundTable) -> Shape:
    """How to read ``found``.

    Raises:
        ConfigurationError: an engine that cannot be read repeatedly; a column that is missing or has a type
            that cannot be used.
    """
    _refuse_engine(found)
    text = _needed(settings, found, "clickhouse_text_column")
    if not holds_text(found.columns[text].type):
        raise ConfigurationError(
            f"column {text} of {found.name} is {found.columns[text].type}, not a String",
            setting="CLICKHOUSE_TEXT_COLUMN",
            fix="name the column with the query's text",
        )
    name = _needed(settings, found, "clickhouse_timestamp_column")
    time = TimeColumn.of(quoted(name), found.columns[name].type)
    if time is None:
        raise ConfigurationError(
            f"column {name} of {found.name} is {found.columns[name].type}, not a DateTime",
            setting="CLICKHOUSE_TIMESTAMP_COLUMN",
            fix="name a DateTime or DateTime64 column; one can be made of what there is: "
            f"ALTER TABLE {found.name} ADD COLUMN row_time DateTime64(3) ALIAS ...",
        )
    return Shape(
        table=qualified(settings.clickhouse_database, settings.clickhouse_table),
        prefix=prefix_beside(found.columns),
        time=time,
        text=SourceColumn(quoted(text), found.columns[text].type),
        id=_optional(settings, found, "clickhouse_id_column"),
        user=_optional(settings, found, "clickhouse_user_id_column"),
        session=_optional(settings, found, "clickhouse_session_id_column"),
        domain=_optional(settings, found, "clickhouse_domain_column"),
        final="key" if found.merges else "setting" if found.indirect else "",
        key=_key_of(found),
        settings=reading_settings(settings.poll_lookback_seconds) if found.indirect else "",
        sorted=_in_order_of(name, found),
    )


def _refuse_engine(found: FoundTable) -> None:
    why = (
        "gives each row to one reader only, and takes it away from others"
        if found.engine in _TAKES
        else "has other rows each time it is read"
        if found.engine in _INVENTS
        else "keeps no rows"
        if found.engine in _FORGETS
        else ""
    )
    if why:
        raise ConfigurationError(
            f"{found.name} is of the engine {found.engine}, which {why}",
            setting="CLICKHOUSE_TABLE",
            fix="name the table in which the rows are kept (for a stream, a materialized view's target)",
        )


def _needed(settings: Settings, found: FoundTable, setting: str) -> str:
    column: str = getattr(settings, setting)
    if column not in found.columns:
        raise ConfigurationError(
            f"{found.name} has no column {column} that the user may see; it has {', '.join(found.columns)}",
            setting=setting.upper(),
            fix=f"set {setting.upper()} to one of them",
        )
    if found.columns[column].kind == "EPHEMERAL":
        raise ConfigurationError(
            f"column {column} of {found.name} is EPHEMERAL: it is not kept and cannot be read",
            setting=setting.upper(),
            fix="name a column that is kept",
        )
    return column


def _optional(settings: Settings, found: FoundTable, setting: str) -> SourceColumn | None:
    column: str = getattr(settings, setting)
    if not column:
        return None
    if column not in found.columns and setting not in settings.model_fields_set:
        log.info("the source has no such column and goes without", column=column, setting=setting.upper())
        return None
    type_ = found.columns[_needed(settings, found, setting)].type
    if not holds_names(type_):
        raise ConfigurationError(
            f"column {column} of {found.name} is {type_}, of which no name can be made",
            setting=setting.upper(),
            fix="name a column of strings or numbers, or set it to none",
        )
    return SourceColumn(quoted(column), type_)


def _columns_of(key: str, found: FoundTable) -> list[str]:
    """The columns of a sorting key; empty if it contains expressions."""
    if not _PLAIN_KEY.match(key):
        return []
    names = [one.strip("`") for one in _KEY_PART.findall(key)]
    return names if all(name in found.columns for name in names) else []


def _in_order_of(time: str, found: FoundTable) -> bool:
    """Whether the sorting key begins with the time, or an expression of it such as toStartOfHour(time)."""
    if names := _columns_of(found.key, found):
        return names[0] == time
    depth, end = 0, len(found.key)
    for place, letter in enumerate(found.key):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and not depth:
            end = place
            break
    return names_column(time, found.key[:end])


def names_column(column: str, expression: str) -> bool:
    """Whether the expression of a key is about ``column``."""
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", expression) is not None


def _key_of(found: FoundTable) -> str:
    """The sorting key as quoted columns (system.tables shows a column `null` or `not` without quotes).

    Empty where an IN with it would miss rows: IN finds neither NULL nor NaN.
    """
    names = _columns_of(found.key, found)
    types = [bare(found.columns[name].type) for name in names]
    if any(nullable or type_.startswith("Float") for type_, nullable in types):
        return ""
    return ", ".join(map(quoted, names))
