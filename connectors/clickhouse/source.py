"""The source table: any column names, read in order of (time, tie), page by page."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import structlog

from connectors.clickhouse.client import ClickHouseClient
from streams.errors import ConfigurationError
from streams.settings import Settings

log = structlog.get_logger()

PAGE_ROWS = 10_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000
_TIMES = re.compile(r"^(?:Nullable\()?(Date32|DateTime64|DateTime|Date)\b(?:\((\d))?")
_TEXTS = re.compile(r"^(?:LowCardinality\()?(?:Nullable\()?(?:String|FixedString)")


class SourceRow(NamedTuple):
    """A row as the table holds it. ``micros``: its time in microseconds since 1970, UTC. ``tie`` orders
    rows of one time: the id, or a hash of user and text."""

    micros: int
    tie: bytes
    id: bytes | None
    text: bytes | None
    user: bytes | None
    session: bytes | None
    domain: bytes | None


def moment(micros: int) -> datetime:
    """A point in time."""
    return _EPOCH + timedelta(microseconds=micros)


def micros_of(at: datetime) -> int:
    """The inverse of `moment`; exact, which a float of seconds would not be."""
    return (at - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True)
class _Shape:
    """The columns, quoted; empty where the source has none."""

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
        """Database and table."""
        return f"{self._settings.clickhouse_database}.{self._settings.clickhouse_table}"

    async def inspect(self) -> dict[str, str]:
        """Find the columns. Returns the table's columns with their types.

        Raises:
            ConfigurationError: no such table or column, or a column of a type that cannot serve.
        """
        settings = self._settings
        found = dict(
            await self._client.rows(
                "SELECT name, type FROM system.columns "
                "WHERE database = {db:String} AND table = {table:String}",
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
        if not _TIMES.match(found[time]):
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

    async def now(self) -> int:
        """The server's clock, in microseconds since 1970."""
        rows = await self._client.rows("SELECT toUnixTimestamp64Micro(now64(6))")
        return int(rows[0][0])

    async def without_time(self) -> int:
        """Rows whose time is NULL: they have no place in any order and cannot be followed."""
        shape = await self._known()
        if "Nullable" not in shape.time_type:
            return 0
        rows = await self._client.rows(f"SELECT count() FROM {self._table()} WHERE {shape.time} IS NULL")
        return int(rows[0][0])

    async def sample(self) -> None:
        """Read one row, to see that the user may."""
        shape = await self._known()
        columns = ", ".join(dict.fromkeys(c for c in (shape.time, shape.text, shape.id, shape.user) if c))
        await self._client.rows(f"SELECT {columns} FROM {self._table()} LIMIT 1")

    async def counts(self, since: int, until: int) -> dict[int, int]:
        """How many rows each second from ``since`` on and before ``until`` holds, by its number since 1970.

        Reads the time's column only: a cheap look for rows that came late.
        """
        shape = await self._known()
        rows = await self._client.rows(
            f"SELECT intDiv({_micros(shape)}, 1000000) AS second, count() FROM {self._table()}\n"
            f"WHERE {self._bounds(shape)} GROUP BY second",
            {"since": since, "until": until},
        )
        return {int(second): int(count) for second, count in rows}

    async def timeless(self, most: int) -> list[SourceRow]:
        """Rows whose time is NULL, as if of 1970, at most ``most``."""
        shape = await self._known()
        if "Nullable" not in shape.time_type:
            return []
        return await self._select(shape, f"{shape.time} IS NULL", {"rows": most}, ties=False)

    async def pages(self, since: int | None, until: int | None = None) -> AsyncIterator[list[SourceRow]]:
        """All rows from ``since`` on and before ``until``, in order, in lists of some thousands.

        Each list is read by a query over its own range of times, so that the server never sorts more
        than that. Rows that are equal in time and tie are never apart.
        """
        shape = await self._known()
        begin = since
        while True:
            end = await self._page_end(shape, begin, until)
            async for page in self._range(shape, begin, until if end is None else end):
                yield page
            if end is None:
                return
            begin = end

    async def newest(self, since: int | None) -> AsyncIterator[list[SourceRow]]:
        """As `pages`, but with one query less where little is expected."""
        shape = await self._known()
        page = await self._page(shape, since, None, None)
        if len(page) < PAGE_ROWS:
            if page:
                yield page
            return
        async for page in self.pages(since):
            yield page

    async def _page_end(self, shape: _Shape, since: int | None, until: int | None) -> int | None:
        """Where a page from ``since`` should end, exclusive; None if no more than a page is left."""
        rows = await self._client.rows(
            f"SELECT count(), max(at) FROM (SELECT {_micros(shape)} AS at FROM {self._table()}\n"
            f"WHERE {self._bounds(shape, since is not None, until is not None)} "
            f"ORDER BY {shape.time} LIMIT {{rows:UInt32}})",
            _given(since=since, until=until, rows=PAGE_ROWS),
        )
        return None if int(rows[0][0]) < PAGE_ROWS else int(rows[0][1]) + 1

    async def _range(
        self, shape: _Shape, since: int | None, until: int | None
    ) -> AsyncIterator[list[SourceRow]]:
        after: SourceRow | None = None
        while True:
            page = await self._page(shape, since, until, after)
            if page:
                yield page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1]

    async def _page(
        self, shape: _Shape, since: int | None, until: int | None, after: SourceRow | None
    ) -> list[SourceRow]:
        bounds = self._bounds(shape, since is not None, until is not None)
        if after is not None:
            since = after.micros
            bounds = self._bounds(shape, True, until is not None)
            bounds += " AND (at > {since:Int64} OR hex(tie) > {tie:String})"
        tie = after.tie.hex().upper() if after is not None else None
        return await self._select(
            shape, bounds, _given(since=since, until=until, rows=PAGE_ROWS, tie=tie), ties=True
        )

    async def _select(
        self, shape: _Shape, condition: str, parameters: dict[str, Any], *, ties: bool
    ) -> list[SourceRow]:
        # A hash of NULL is NULL, and would put all rows without a user into one.
        user, text = f"ifNull({_text(shape.user)}, '')", f"ifNull({_text(shape.text)}, '')"
        digest = f"hex(sipHash128({user}, {text}))"
        tie = f"ifNull(nullIf({_text(shape.id)}, ''), {digest})" if shape.id else digest
        columns = await self._client.columns(
            f"SELECT {_micros(shape)} AS at, {tie} AS tie, {_text(shape.id)} AS id_, "
            f"toNullable({shape.text}) AS text_,\n"
            f"    {_text(shape.user)} AS user_, {_text(shape.session)} AS session_, "
            f"{_text(shape.domain)} AS domain_\n"
            f"FROM {self._table()} WHERE {condition}\n"
            f"ORDER BY at, tie LIMIT {{rows:UInt32}}{' WITH TIES' if ties else ''}",
            parameters,
            strings_as_bytes=True,
        )
        return [SourceRow(*values) for values in zip(*columns, strict=True)]

    def _bounds(self, shape: _Shape, since: bool = True, until: bool = True) -> str:
        """Rows with a time, from the parameter ``since`` and before ``until``, each of them if asked for.

        The bare column is compared too, to a second around, so that the server can use its index.
        """
        parts = ["1"]
        if "Nullable" in shape.time_type:
            parts.append(f"{shape.time} IS NOT NULL")
        if since:
            parts.append(f"{shape.time} >= {_bare(shape, '{since:Int64}')}")
            parts.append(f"{_micros(shape)} >= {{since:Int64}}")
        if until:
            parts.append(f"{shape.time} <= {_bare(shape, f'({{until:Int64}} + {_SECOND})')}")
            parts.append(f"{_micros(shape)} < {{until:Int64}}")
        return " AND ".join(parts)

    def _table(self) -> str:
        return f"{_quoted(self._settings.clickhouse_database)}.{_quoted(self._settings.clickhouse_table)}"

    async def _known(self) -> _Shape:
        if self._shape is None:
            await self.inspect()
        assert self._shape is not None
        return self._shape


def _micros(shape: _Shape) -> str:
    return f"toUnixTimestamp64Micro(toDateTime64(assumeNotNull({shape.time}), 6))"


def _bare(shape: _Shape, micros: str) -> str:
    """``micros`` as a value of the time column's own type, truncated towards the past."""
    found = _TIMES.match(shape.time_type)
    kind = found.group(1) if found else "DateTime64"
    if kind in ("DateTime", "Date"):  # what these cannot hold would come out as another time altogether
        micros = f"least(greatest({micros}, 0), {(2**32 - 1) * _SECOND})"
    whole = f"fromUnixTimestamp64Micro({micros}, 'UTC')"
    if kind == "DateTime64":
        return f"toDateTime64({whole}, {found.group(2) if found and found.group(2) else 6}, 'UTC')"
    return f"to{kind}({whole}, 'UTC')" if kind == "DateTime" else f"to{kind}({whole})"


def _text(column: str) -> str:
    return f"toNullable(toString({column}))" if column else "CAST(NULL, 'Nullable(String)')"


def _given(**parameters: Any) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _quoted(name: str) -> str:
    return f"`{name}`"
