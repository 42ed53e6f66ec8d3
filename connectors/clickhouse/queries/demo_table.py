"""The demo's source table, under the names of the settings, and what became of its rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import qualified, quoted, result_table
from connectors.clickhouse.schema.tables import AUGMENTED, CURRENT, DEAD_LETTERS, LABELED
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

_MARK = "labelstream demo"


class Stored(NamedTuple):
    """How many of the demo's rows are stored: labelled, with variants, and each once in the current view."""

    labeled: int
    augmented: int
    current: int


class DemoTable:
    """Rows of one run of the demo have the ids from ``first`` on."""

    def __init__(self, client: ClickHouseClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self.first = 1
        self.next = 1

    async def create(self, *, guest: bool) -> None:
        """Make the table if there is none. ``guest``: the server is not the demo's own.

        Raises:
            ConfigurationError: there is one with somebody's rows in it, or one without a numeric id.
        """
        settings = self._settings
        database, table = settings.clickhouse_database, settings.clickhouse_table
        if not settings.clickhouse_id_column:
            raise ConfigurationError(
                "the demo counts its rows by their ids",
                setting="CLICKHOUSE_ID_COLUMN",
                fix="leave it unset for the demo",
            )
        await self._client.command(f"CREATE DATABASE IF NOT EXISTS {quoted(database)}")
        columns = ",\n".join(f"    {quoted(name)} {kind}" for name, kind in self._columns())
        await self._client.command(
            f"CREATE TABLE IF NOT EXISTS {self._table} (\n{columns}\n) "
            f"ENGINE = MergeTree ORDER BY {quoted(settings.clickhouse_timestamp_column)} COMMENT '{_MARK}'"
        )
        found = await self._client.rows(
            "SELECT comment, total_rows FROM system.tables WHERE database = {d:String} AND name = {t:String}",
            {"d": database, "t": table},
        )
        if guest and found and found[0][0] != _MARK and found[0][1]:
            raise ConfigurationError(
                f"{database}.{table} holds rows of somebody else; the demo would add its own to them",
                setting="CLICKHOUSE_TABLE",
                fix="unset CLICKHOUSE_HOST for the demo, or name a table that does not exist yet",
            )
        rows = await self._client.rows(
            f"SELECT max({quoted(settings.clickhouse_id_column)}) FROM {self._table}"
        )
        self.first = self.next = int(rows[0][0] or 0) + 1

    async def insert(self, texts: Sequence[tuple[str, str | None]], users: Sequence[str]) -> None:
        """Add rows of the present moment: (text, domain), with their users."""
        now = datetime.now(UTC)
        values: dict[str, list[Any]] = {
            self._settings.clickhouse_id_column: list(range(self.next, self.next + len(texts))),
            self._settings.clickhouse_text_column: [text for text, _ in texts],
            self._settings.clickhouse_domain_column: [domain for _, domain in texts],
            self._settings.clickhouse_timestamp_column: [now] * len(texts),
            self._settings.clickhouse_user_id_column: list(users),
        }
        values.pop("", None)
        await self._client.insert(
            self._settings.clickhouse_table,
            list(values),
            list(values.values()),
            database=self._settings.clickhouse_database,
        )
        self.next += len(texts)

    async def stored(self) -> Stored:
        """What the result tables hold of this run's rows."""
        counts = []
        for table in (LABELED, AUGMENTED, CURRENT):
            rows = await self._client.rows(f"SELECT count() FROM {self._result(table)} WHERE {self._mine()}")
            counts.append(int(rows[0][0]))
        return Stored(*counts)

    async def distinct(self) -> int:
        """How many different rows of this run are labelled or given up."""
        rows = await self._client.rows(
            f"SELECT uniqExact(row_id) FROM (SELECT row_id FROM {self._result(LABELED)} WHERE {self._mine()} "
            f"UNION ALL SELECT row_id FROM {self._result(DEAD_LETTERS)} WHERE {self._mine()})"
        )
        return int(rows[0][0])

    async def labels(self) -> list[tuple[str, int]]:
        """This run's labels and how often each was given, most frequent first."""
        rows = await self._client.rows(
            f"SELECT label, count() AS c FROM {self._result(CURRENT)} WHERE {self._mine()} "
            "GROUP BY label ORDER BY c DESC, label"
        )
        return [(str(label), int(count)) for label, count in rows]

    async def examples(self, count: int = 4) -> list[tuple[str, str, float | None, list[str]]]:
        """Some rows: text, label, confidence, variants."""
        rows = await self._client.rows(
            f"SELECT text, label, confidence, variants FROM {self._result(AUGMENTED)} "
            f"WHERE {self._mine()} AND notEmpty(variants) AND lengthUTF8(text) < 70 "
            f"ORDER BY cityHash64(row_id) LIMIT 1 BY text LIMIT {int(count)}"
        )
        return [(str(text), str(label), sure, list(variants)) for text, label, sure, variants in rows]

    def _columns(self) -> list[tuple[str, str]]:
        settings = self._settings
        columns = [
            (settings.clickhouse_id_column, "UInt64"),
            (settings.clickhouse_text_column, "String"),
            (settings.clickhouse_domain_column, "Nullable(String)"),
            (settings.clickhouse_timestamp_column, "DateTime"),
            (settings.clickhouse_user_id_column, "Nullable(String)"),
            (settings.clickhouse_session_id_column, "Nullable(String)"),
            ("confidence", "Nullable(Float32)"),
        ]
        return [(name, kind) for name, kind in columns if name]

    @property
    def _table(self) -> str:
        return qualified(self._settings.clickhouse_database, self._settings.clickhouse_table)

    def _result(self, table: str) -> str:
        return result_table(self._settings, table)

    def _mine(self) -> str:
        return f"toUInt64OrZero(row_id) >= {self.first}"
