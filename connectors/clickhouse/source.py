"""The source table: any column names, read in (time, tie) order, page by page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from connectors.clickhouse.client import ClickHouseClient
from streams.errors import ConfigurationError
from streams.settings import Settings

log = structlog.get_logger()

PAGE_ROWS = 5000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = re.compile(r"^(?:Nullable\()?(Date32|DateTime64|DateTime|Date)\b(?:\((\d))?")
_TEXTS = re.compile(r"^(?:LowCardinality\()?(?:Nullable\()?(?:String|FixedString)")


@dataclass(frozen=True, slots=True)
class SourceRow:
    """A row as the table holds it. ``nanos``: its time in nanoseconds since 1970, UTC. ``tie`` orders
    rows of one time: the id, or a hash of user and text."""

    nanos: int
    tie: str
    id: str | None
    text: bytes | None
    user: str | None
    session: str | None
    domain: str | None

    @property
    def created_at(self) -> datetime:
        return moment(self.nanos)


def moment(nanos: int) -> datetime:
    """A point in time, to the microsecond."""
    return _EPOCH + timedelta(microseconds=nanos // 1000)


@dataclass(frozen=True)
class _Shape:
    time_type: str
    text: str
    time: str
    id: str
    user: str
    session: str
    domain: str


class SourceTable:
    """Reads; never writes."""

    def __init__(self, client: ClickHouseClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._shape: _Shape | None = None

    @property
    def name(self) -> str:
        return f"{self._settings.clickhouse_database}.{self._settings.clickhouse_table}"

    async def inspect(self) -> dict[str, str]:
        """Find the columns. Returns the table's columns with their types.

        Raises:
            ConfigurationError: no such table or column, or a column of a type that cannot serve.
        """
        settings = self._settings
        found = dict(
            await self._client.rows(
                "SELECT name, type FROM system.columns WHERE database = {db:String} AND table = {table:String}",
                {"db": settings.clickhouse_database, "table": settings.clickhouse_table},
            )
        )
        if not found:
            raise ConfigurationError(
                f"there is no table {self.name}, or the user may not see it",
                setting="CLICKHOUSE_TABLE",
                fix="set CLICKHOUSE_DATABASE and CLICKHOUSE_TABLE to the table with the queries",
            )
        text = self._needed("clickhouse_text_column", found)
        time = self._needed("clickhouse_timestamp_column", found)
        if not _TEXTS.match(found[text]):
            raise ConfigurationError(
                f"column {text} of {self.name} is {found[text]}, not a String",
                setting="CLICKHOUSE_TEXT_COLUMN",
                fix="name the column with the query's text",
            )
        time_type = _TIMES.match(found[time])
        if not time_type:
            raise ConfigurationError(
                f"column {time} of {self.name} is {found[time]}, not a DateTime",
                setting="CLICKHOUSE_TIMESTAMP_COLUMN",
                fix="name a DateTime or DateTime64 column",
            )
        self._shape = _Shape(
            time_type=found[time],
            text=_quoted(text),
            time=_quoted(time),
            id=self._optional("clickhouse_id_column", found),
            user=self._optional("clickhouse_user_id_column", found),
            session=self._optional("clickhouse_session_id_column", found),
            domain=self._optional("clickhouse_domain_column", found),
        )
        return found

    def _needed(self, setting: str, found: dict[str, str]) -> str:
        name: str = getattr(self._settings, setting)
        if name not in found:
            raise ConfigurationError(
                f"{self.name} has no column {name}; it has {', '.join(found)}",
                setting=setting.upper(),
                fix=f"set {setting.upper()} to one of them",
            )
        return name

    def _optional(self, setting: str, found: dict[str, str]) -> str:
        name: str = getattr(self._settings, setting)
        if not name:
            return ""
        if name in found:
            return _quoted(name)
        if setting in self._settings.model_fields_set:
            return _quoted(self._needed(setting, found))
        log.info("the source has no such column and goes without", column=name, setting=setting.upper())
        return ""

    async def now_nanos(self) -> int:
        """The server's clock."""
        rows = await self._client.rows("SELECT toUnixTimestamp64Nano(now64(9))")
        return int(rows[0][0])

    async def without_time(self) -> int:
        """Rows whose time is NULL: they have no place in any order and cannot be followed."""
        shape = await self._known()
        if "Nullable" not in shape.time_type:
            return 0
        rows = await self._client.rows(f"SELECT count() FROM {self._table()} WHERE {shape.time} IS NULL")
        return int(rows[0][0])

    async def pages(self, since_nanos: int) -> AsyncIterator[list[SourceRow]]:
        """All rows from ``since_nanos`` on, in order, in lists of some thousands.

        Rows of one time and tie are never apart: a page ends with all that are equal to its last.
        """
        shape = await self._known()
        after: tuple[int, str] | None = None
        while True:
            page = await self._page(shape, since_nanos, after)
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            after = (page[-1].nanos, page[-1].tie)

    async def _page(self, shape: _Shape, since: int, after: tuple[int, str] | None) -> list[SourceRow]:
        def text_of(column: str) -> str:
            return f"toNullable(toString({column}))" if column else "CAST(NULL, 'Nullable(String)')"

        time = f"toUnixTimestamp64Nano(toDateTime64(assumeNotNull({shape.time}), 9))"
        digest = f"hex(sipHash128({text_of(shape.user)}, {shape.text}))"
        tie = f"ifNull(nullIf({text_of(shape.id)}, ''), {digest})" if shape.id else digest
        # Comparing the bare column lets ClickHouse use its primary index.
        bound = f"{shape.time} >= {self._as_time(shape, 'since')}"
        parameters: dict[str, Any] = {"since": since, "rows": PAGE_ROWS}
        if after is not None:
            bound = (
                f"{shape.time} >= {self._as_time(shape, 'since')} AND "
                "(nanos > {after:Int64} OR (nanos = {after:Int64} AND tie > {tie:String}))"
            )
            parameters |= {"since": after[0], "after": after[0], "tie": after[1]}
        columns = await self._client.columns(
            f"""SELECT {time} AS nanos, {tie} AS tie, {text_of(shape.id)} AS id_, toNullable({shape.text}) AS text_,
    {text_of(shape.user)} AS user_, {text_of(shape.session)} AS session_, {text_of(shape.domain)} AS domain_
FROM {self._table()} WHERE {bound} AND {shape.time} IS NOT NULL
ORDER BY nanos, tie LIMIT {{rows:UInt32}} WITH TIES""",
            parameters,
            strings_as_bytes=True,
        )
        if not columns:
            return []
        nanos, ties, ids, texts, users, sessions, domains = columns
        return [
            SourceRow(
                int(nanos[i]), _str(ties[i]) or "", _str(ids[i]), texts[i], _str(users[i]), _str(sessions[i]),
                _str(domains[i]),
            )
            for i in range(len(nanos))
        ]  # fmt: skip

    def _as_time(self, shape: _Shape, name: str) -> str:
        whole = f"fromUnixTimestamp64Nano({{{name}:Int64}}, 'UTC')"
        found = _TIMES.match(shape.time_type)
        kind = found.group(1) if found else "DateTime64"
        # Truncated towards the past, so that no row of the same second is left out.
        if kind == "DateTime64":
            return f"toDateTime64({whole}, {found.group(2) if found and found.group(2) else 9}, 'UTC')"
        return f"to{kind}({whole}, 'UTC')" if kind == "DateTime" else f"to{kind}({whole})"

    def _table(self) -> str:
        return f"{_quoted(self._settings.clickhouse_database)}.{_quoted(self._settings.clickhouse_table)}"

    async def _known(self) -> _Shape:
        if self._shape is None:
            await self.inspect()
        assert self._shape is not None
        return self._shape


def _quoted(name: str) -> str:
    return f"`{name}`"


def _str(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
