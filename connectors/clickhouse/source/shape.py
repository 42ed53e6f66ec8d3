"""Builds every SELECT from the source table; no other module names a column of it.

In ClickHouse an alias of the SELECT hides a column with the same name, in WHERE too. So aliases beside the
table's columns have a prefix that no column of the table begins with. The plain names are given one level
higher, in a subquery that no longer sees the table's columns; other modules build on that.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from connectors.clickhouse.source.times import TimeColumn
from connectors.clickhouse.source.types import as_text, holds_text

_PREFIX = "labelstream"
_NULL = "CAST(NULL, 'Nullable(String)')"
_TIE_BYTES = 1_000

# The fields of a row, and their names in `Select.subquery`. `size`: bytes of the text.
FIELDS = {
    "time": "at",
    "tie": "tie",
    "id": "id_",
    "text": "text_",
    "user": "user_",
    "session": "session_",
    "domain": "domain_",
    "size": "size",
}
ROW = ("time", "tie", "id", "text", "user", "session", "domain")


class Select(NamedTuple):
    """A query over the source table and its parameters; its columns have the order of the fields asked for.

    ``subquery``: the same query with the names of `FIELDS`, to select from (unordered).
    """

    sql: str
    subquery: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class SourceColumn:
    """A column of the source table: its quoted name and its type."""

    column: str
    type: str

    @property
    def text(self) -> str:
        """SQL: the value as Nullable(String)."""
        return f"toNullable({as_text(self.column, self.type)})"

    @property
    def length(self) -> str:
        """SQL: the bytes of the value as text; NULL for NULL."""
        return f"length({as_text(self.column, self.type)})"


@dataclass(frozen=True)
class Shape:
    """How to read one source table. ``id``, ``user``, ``session``, ``domain``: None where it has none.

    ``final``: how to read only the newest version of a row: `key` with FINAL, for a table that merges rows of
    the same sorting key (``key``, its quoted columns); `setting` with the setting final, for a table that
    reads from others. ``settings``: what each reading says in SETTINGS beside that. ``sorted``: whether the
    table is sorted by time.
    """

    table: str
    prefix: str
    time: TimeColumn
    text: SourceColumn
    id: SourceColumn | None
    user: SourceColumn | None
    session: SourceColumn | None
    domain: SourceColumn | None
    final: Literal["", "key", "setting"] = ""
    key: str = ""
    settings: str = ""
    sorted: bool = True

    @property
    def timed_always(self) -> bool:
        """Whether each row has a time."""
        return not self.time.nullable

    def select(
        self,
        fields: Sequence[str],
        since: int | None = None,
        until: int | None = None,
        *,
        timeless: bool = False,
        longer_than: int | None = None,
        utf8: bool = False,
        order: Literal["", "ASC", "DESC"] = "",
        limit: int | None = None,
        all_versions: bool = False,
    ) -> Select:
        """Rows with ``since`` <= time < ``until`` (microseconds since 1970).

        ``timeless``: rows without a time instead. ``longer_than``: only texts with more bytes. ``utf8``:
        replace bytes that are not UTF-8. ``order``: by time. ``all_versions``: without merging them.
        """
        if timeless:
            bounds, parameters = [f"{self.time.column} IS NULL"], dict[str, Any]()
        else:
            bounds, given = self.time.bounds(since, until)
            parameters = dict[str, Any](given)
        where = list(bounds)
        if longer_than is not None:
            where.append(f"{self.text.length} > {{longer_than:UInt64}}")
            parameters["longer_than"] = longer_than
        source, told = self.table, [self.settings] if self.settings else []
        if self.final == "setting" and not all_versions:
            told.append("final = 1")
        elif self.final == "key" and not all_versions:
            source += " FINAL"
            if self.key and bounds and not self.sorted:
                # A newer version may have another time. Found by its key, so that FINAL reads little else.
                bounded = " AND ".join(bounds)
                where.append(f"({self.key}) IN (SELECT {self.key} FROM {self.table} WHERE {bounded})")
        columns = ",\n    ".join(
            f"{self._sql(field, timeless, utf8)} AS {self._name(field)}" for field in fields
        )
        sql = f"SELECT {columns}\nFROM {source}"
        if where:
            sql += f"\nWHERE {' AND '.join(where)}"
        if order:
            sql += f"\nORDER BY {self.time.column} {order}"
        if limit is not None:
            sql += "\nLIMIT {rows:UInt64}"
            parameters["rows"] = limit
        if told:
            sql += f"\nSETTINGS {', '.join(told)}"
        names = ", ".join(f"{self._name(field)} AS {FIELDS[field]}" for field in fields)
        return Select(sql, f"SELECT {names} FROM (\n{sql}\n)", parameters)

    def _name(self, field: str) -> str:
        return f"{self.prefix}_{field}"

    def _sql(self, field: str, timeless: bool, utf8: bool) -> str:
        match field:
            case "time":
                return "toInt64(0)" if timeless else self.time.micros
            case "size":
                return f"ifNull({self.text.length}, 0)"
            case "tie":
                return self._tie
        column: SourceColumn | None = getattr(self, field)
        if column is None:
            return _NULL
        return f"toValidUTF8({column.text})" if utf8 else column.text

    @property
    def _tie(self) -> str:
        """SQL: what orders rows of one time: the id, of a long one its beginning and a hash, or a hash of
        user and text.
        """
        # A hash of NULL is NULL, and would put all rows without a user into one.
        user = _NULL if self.user is None else self.user.text
        digest = f"hex(sipHash128(ifNull({user}, ''), ifNull({self.text.text}, '')))"
        if self.id is None:
            return digest
        id_ = self.id.text
        if holds_text(self.id.type):
            # It is bound where reading continues behind a row, so it must be short.
            short = f"substring({id_}, 1, {_TIE_BYTES}) || hex(sipHash128({id_}))"
            id_ = f"if({self.id.length} > {_TIE_BYTES}, {short}, {id_})"
        return f"ifNull(nullIf({id_}, ''), {digest})"


def prefix_beside(columns: Collection[str]) -> str:
    """A prefix for our aliases that no column of the source begins with."""
    prefix, number = _PREFIX, 1
    while any(column.startswith(prefix) for column in columns):
        number += 1
        prefix = f"{_PREFIX}{number}"
    return prefix
