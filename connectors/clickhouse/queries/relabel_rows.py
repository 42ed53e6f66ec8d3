"""Rows of `logs_labeled`, to be labelled again: what Kafka no longer holds, or by their present label."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from typing import Any, get_args

from connectors.clickhouse.client.catch_up import catch_up
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import quoted, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.schema.tables import CURRENT, LABELED
from streams.core.errors import ConfigurationError
from streams.core.messages import DecidedBy, Row
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.privacy.pseudonyms import Kind, Pseudonyms, is_pseudonym

PAGE_ROWS = 5000
# So many labels are counted in a part of a second; of more, half as many in so many spans of time.
_COUNTED, _SPANS = 400_000, 50
_RANGES_OF_TEXTS = 16
_COLUMNS = {
    "label": ("label", "String"),
    "confidence": ("confidence", "Float64"),
    "domain": ("source_domain", "String"),
    "user": ("user_id", "String"),
    "session": ("session_id", "String"),
    "version": ("label_version", "String"),
    "decided_by": ("decided_by", "String"),
    "proxy_generation": ("proxy_generation", "Int64"),
}
_NUMBERS: dict[str, type[float] | type[int]] = {"Float64": float, "Int64": int}
_DECIDERS = get_args(DecidedBy)
_PERSONAL: dict[str, Kind] = {"user": "user", "session": "session"}
_CONDITION = re.compile(r"^\s*(\w+)\s*(<=|>=|!=|=|<|>)\s*(.+?)\s*$")


@dataclass(frozen=True)
class Condition:
    """`FIELD OPERATOR VALUE` on a row's current label. A user or session may be several pseudonyms, one of
    which the row has: `user=p2:...|p1:...`.
    """

    column: str
    type: str
    operator: str
    value: str | float | tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Condition:
        """From the command line.

        Raises:
            ConfigurationError: no such field, or no such operator for it.
        """
        fix = f"write {', '.join(_COLUMNS)} with =, != or, for numbers, <, <=, >, >=: confidence<0.6"
        found = _CONDITION.match(text)
        if found is None or found[1] not in _COLUMNS:
            raise ConfigurationError(f"{text} is no condition", setting="--where", fix=fix)
        column, kind = _COLUMNS[found[1]]
        value: str | float | tuple[str, ...] = found[3]
        if kind in _NUMBERS:
            try:
                value = _NUMBERS[kind](found[3])
            except ValueError:
                raise ConfigurationError(f"{found[3]} is no number", setting="--where", fix=fix) from None
        elif found[2] not in ("=", "!="):
            raise ConfigurationError(f"{found[1]} has no order", setting="--where", fix=fix)
        elif column == "decided_by" and value not in _DECIDERS:
            raise ConfigurationError(
                f"nothing is decided by {value}", setting="--where", fix=f"one of {', '.join(_DECIDERS)}"
            )
        elif found[1] in _PERSONAL and len(some := found[3].split("|")) > 1 and all(map(is_pseudonym, some)):
            return cls(column, f"Array({kind})", "IN" if found[2] == "=" else "NOT IN", tuple(some))
        return cls(column, kind, found[2], value)

    @property
    def chooses_proxy(self) -> bool:
        """Whether only labels of a proxy fit."""
        return (self.column, self.operator, self.value) == ("decided_by", "=", "proxy")

    @staticmethod
    def without_ids(text: str, pseudonyms: Pseudonyms) -> str:
        """The condition ``text`` with the pseudonyms of all generations in the place of a user or session.

        Raises:
            ConfigurationError: as `parse`.
        """
        Condition.parse(text)
        found = _CONDITION.match(text)
        kind = _PERSONAL.get(found[1]) if found is not None else None
        if found is None or kind is None or all(map(is_pseudonym, found[3].split("|"))):
            return text
        return f"{found[1]}{found[2]}{'|'.join(pseudonyms.every_pseudonym(kind, found[3]))}"


class LabelledRows:
    """Rows that have a label now (a promoted one), in order of time and id."""

    def __init__(
        self,
        client: ClickHouseClient,
        settings: Settings,
        *,
        since: int | None,
        until: int | None,
        where: Sequence[Condition] = (),
        part: tuple[int, int] = (0, 1),
        texts: Sequence[str] | None = None,
    ) -> None:
        """``since`` and ``until`` (exclusive): `created_at` in microseconds since 1970. ``part``: which one
        of how many, by a hash of the text. ``texts``: only rows with these, at most 4,000.
        """
        self._part, self._parts = part
        self._texts = None if texts is None else sorted({_half_md5(text) for text in texts})
        self._client = client
        self._named = settings.result_database
        self._database = quoted(settings.result_database)
        self._until = until
        self._since = since
        self._where = where

    async def count(self) -> int:
        """How many there are. Among more than some hundred thousand labels estimated by those of short spans
        of time, spread evenly: a job begins with this number, however long the history is.
        """
        conditions, given = self._conditions(self._since, None)
        within, bounds = _bounds(self._since, self._until)
        labels = await self._number(f"count() FROM {self._table} WHERE {within}", bounds)
        if labels <= _COUNTED:
            return await self._number(f"count() FROM {self._view} WHERE {conditions}", given)
        first, last = [
            await self._number(
                f"toUnixTimestamp64Micro(created_at) FROM {self._table} WHERE {within}\n"
                f"ORDER BY created_at {order} LIMIT 1",
                bounds,
            )
            for order in ("ASC", "DESC")
        ]
        spans = _spread(first, last, _COUNTED / 2 / labels)
        looked = await self._number(f"count() FROM {self._table} WHERE {within} AND {spans}", bounds)
        if looked < _COUNTED / 20:  # nearly all of them are in between, beside some with odd times
            return labels
        found = await self._number(f"count() FROM {self._view} WHERE {conditions} AND {spans}", given)
        return round(found * labels / looked)

    async def _number(self, question: str, given: dict[str, Any]) -> int:
        rows = await self._client.rows(f"SELECT {question}", given)
        return int(rows[0][0]) if rows else 0

    async def pages(
        self, after: tuple[int, str] | None = None
    ) -> AsyncIterator[tuple[list[Row], tuple[int, str]]]:
        """Lists of rows, each with the place (time, id) after which the next begins.

        Each is read from its own range of times, so that the server never sorts more than that.
        """
        begin = after[0] if after is not None else self._since
        moves = -1
        while True:
            # Another host may be behind the one before it.
            if moves != self._client.hosts.moves:
                moves = self._client.hosts.moves
                await catch_up(self._client, self._named, LABELED)
            last = await self._last_of_range(begin)
            while True:
                page = await self._page(begin, last, after)
                if page:
                    after = (micros_of(page[-1].created_at), page[-1].row_id)
                    yield page, after
                if len(page) < PAGE_ROWS:
                    break
            if last is None:
                return
            begin, after = last + 1, (last + 1, "")
            yield [], after

    async def _last_of_range(self, begin: int | None) -> int | None:
        """The newest time of the next some thousand labels; None if there are no more."""
        bounds, given = _bounds(begin, self._until)
        # Of some texts there are few rows: as many ranges as for one part of them.
        limit = 4 * PAGE_ROWS * (self._parts if self._texts is None else _RANGES_OF_TEXTS)
        rows = await self._client.rows(
            "SELECT count(), max(at) FROM (SELECT toUnixTimestamp64Micro(created_at) AS at "
            f"FROM {self._table} WHERE {bounds}\n"
            f"ORDER BY created_at LIMIT {limit})",
            given,
        )
        return None if int(rows[0][0]) < limit else int(rows[0][1])

    async def _page(self, begin: int | None, last: int | None, after: tuple[int, str] | None) -> list[Row]:
        conditions, given = self._conditions(begin, last)
        if after is not None:
            conditions += f" AND ({time_is('>', 'at')} OR ({time_is('=', 'at')} AND row_id > {{id:String}}))"
            given |= {"at": after[0], "id": after[1]}
        rows = await self._client.rows(
            "SELECT row_id, text, toUnixTimestamp64Micro(created_at), user_id, session_id, source_domain,\n"
            f"    toUnixTimestamp64Micro(polled_at)\nFROM {self._view} WHERE {conditions}\n"
            f"ORDER BY created_at, row_id LIMIT {PAGE_ROWS}",
            given,
        )
        return [
            Row.model_construct(
                row_id=row_id,
                text=text,
                created_at=moment(int(created)),
                user_id=user,
                session_id=session,
                source_domain=domain,
                polled_at=moment(int(polled)),
            )
            for row_id, text, created, user, session, domain, polled in rows
        ]

    def _conditions(self, begin: int | None, last: int | None) -> tuple[str, dict[str, Any]]:
        bounds, given = _bounds(begin, self._until)
        bounds += f" AND {NOT_ERASED}"
        if self._parts > 1:
            bounds += " AND cityHash64(text) % {parts:UInt64} = {part:UInt64}"
            given |= {"parts": self._parts, "part": self._part}
        if self._texts is not None:  # by their hashes: bound as they are, they make too long a query
            bounds += " AND halfMD5(text) IN {texts:Array(UInt64)}"
            given["texts"] = self._texts
        if last is not None:
            bounds += f" AND {time_is('<=', 'last')}"
            given["last"] = last
        for number, one in enumerate(self._where):
            bounds += f" AND {one.column} {one.operator} {{value{number}:{one.type}}}"
            given[f"value{number}"] = list(one.value) if isinstance(one.value, tuple) else one.value
        return bounds, given

    @property
    def _table(self) -> str:
        return f"{self._database}.{quoted(LABELED)}"

    @property
    def _view(self) -> str:
        return f"{self._database}.{quoted(CURRENT)}"


def _spread(first: int, last: int, share: float) -> str:
    """The condition for ``share`` (0..1) of the time from ``first`` to ``last``, in _SPANS spans."""
    step = (last - first) / _SPANS
    spans = (
        (round(first + number * step), round(first + (number + share) * step)) for number in range(_SPANS)
    )
    return "({})".format(
        " OR ".join(
            f"created_at >= fromUnixTimestamp64Micro(toInt64({begin}), 'UTC') "
            f"AND created_at <= fromUnixTimestamp64Micro(toInt64({end}), 'UTC')"
            for begin, end in spans
        )
    )


def _bounds(begin: int | None, until: int | None) -> tuple[str, dict[str, Any]]:
    parts, given = ["1"], dict[str, Any]()
    if begin is not None:
        parts.append(time_is(">=", "begin"))
        given["begin"] = begin
    if until is not None:
        parts.append(time_is("<", "until"))
        given["until"] = until
    return " AND ".join(parts), given


def _half_md5(text: str) -> int:
    """As ClickHouse's `halfMD5`."""
    return int.from_bytes(md5(text.encode("utf-8", "replace"), usedforsecurity=False).digest()[:8], "big")
