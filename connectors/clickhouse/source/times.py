"""The time column of the source table: reads and compares times as the integers that ClickHouse stores.

Each time type is stored as an integer: days, seconds, or fractions of a second since 1970. Only that integer
is read and compared here, so the result does not depend on the time zone of the server, the session or the
column, nor on daylight saving. A Date means midnight UTC of that day.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from connectors.clickhouse.client.sql import literal
from connectors.clickhouse.source.types import bare
from streams.core.times import micros_of

SECOND = 1_000_000
DAY = 86_400 * SECOND

# The range of a message's time. Values outside it are read as its first or last value.
_FIRST = micros_of(datetime.min.replace(tzinfo=UTC))
_LAST = micros_of(datetime.max.replace(tzinfo=UTC))
_TYPE = re.compile(r"^(Date32|Date|DateTime64|DateTime)(?:\((\d)?.*\))?$")
# The type of the stored integer, its first value, and the one after its last.
_STORAGE = {
    "Date": ("UInt16", 0, 2**16),
    "Date32": ("Int32", -(2**31), 2**31),
    "DateTime": ("UInt32", 0, 2**32),
}


@dataclass(frozen=True)
class TimeColumn:
    """A column of one of the time types. ``column`` is its quoted name, ``type`` its type with the zone UTC.

    ``storage``: the type of the stored integer. Its unit, a tick, is ``tick`` microseconds long; where it is
    shorter than one microsecond, ``tick`` is 1 and ``per_micro`` ticks are one microsecond. Ticks below
    ``least`` or above ``most`` are read as ``least`` or ``most``.
    """

    column: str
    nullable: bool
    type: str
    storage: str
    tick: int
    per_micro: int
    least: int
    most: int

    @classmethod
    def of(cls, column: str, declared: str) -> TimeColumn | None:
        """The column with the declared type; None if that is no time type."""
        inner, nullable = bare(declared)
        found = _TYPE.match(inner)
        if found is None:
            return None
        kind = found.group(1)
        tick, per_micro = DAY if kind in ("Date", "Date32") else SECOND, 1
        if kind == "DateTime64":
            scale = int(found.group(2) or 3)
            tick, per_micro = 10 ** max(6 - scale, 0), 10 ** max(scale - 6, 0)
            storage, first, end = "Int64", -(2**63), 2**63
            type_ = f"DateTime64({scale}, 'UTC')"
        else:
            storage, first, end = _STORAGE[kind]
            type_ = "DateTime('UTC')" if kind == "DateTime" else kind
        least = max(-(-first // per_micro) * per_micro, _FIRST * per_micro // tick)
        most = min(end - 1, (_LAST * per_micro + per_micro - 1) // tick)
        return cls(column, nullable, type_, storage, tick, per_micro, least, most)

    @property
    def is_date(self) -> bool:
        """Whether the values are whole days."""
        return self.tick == DAY

    @property
    def micros(self) -> str:
        """SQL: a row's time in microseconds since 1970, UTC, rounded down. Undefined where it is NULL."""
        ticks = f"toInt64({self._integer})"
        if self.storage in ("Int64", "Int32"):
            ticks = f"least(greatest({ticks}, toInt64({self.least})), toInt64({self.most}))"
        if self.per_micro > 1:
            return f"intDiv({ticks} - positiveModulo({ticks}, {self.per_micro}), {self.per_micro})"
        return f"{ticks} * {self.tick}"

    def bounds(self, since: int | None, until: int | None) -> tuple[list[str], dict[str, int]]:
        """SQL conditions for ``since`` <= time < ``until`` (microseconds since 1970), and their parameters.

        They hold for exactly the rows whose `micros` is in this range; never for rows without a time.
        """
        conditions, parameters = [], {}
        if since is not None and (first := self._ticks(since)) > self.least:
            if first > self.most:
                return ["0"], {}
            conditions += self._compare(">=", "since")
            parameters["since"] = first
        if until is not None and (end := self._ticks(until)) <= self.most:
            if end <= self.least:
                return ["0"], {}
            conditions += self._compare("<", "until")
            parameters["until"] = end
        if self.nullable and not conditions:
            conditions.append(f"{self.column} IS NOT NULL")
        return conditions, parameters

    def rounded(self, micros: int) -> int:
        """``micros``, rounded down to what the column can store."""
        return micros - micros % self.tick

    def _ticks(self, micros: int) -> int:
        """The smallest tick at or after ``micros``."""
        return -(-micros * self.per_micro // self.tick)

    @property
    def _integer(self) -> str:
        """SQL: the stored integer."""
        # The CAST removes LowCardinality.
        value = f"CAST(assumeNotNull({self.column}), {literal(self.type)})"
        return f"toInt32({value})" if self.type == "Date32" else f"reinterpret({value}, '{self.storage}')"

    def _compare(self, operator: str, parameter: str) -> list[str]:
        """Conditions on the bare column, so that the server can use its index."""
        given = f"{{{parameter}:{self.storage}}}"
        if self.type != "Date32":
            return [f"{self.column} {operator} reinterpret({given}, {literal(self.type)})"]
        # reinterpret does not know Date32, and older servers clamp days after 2299: so the integer as well.
        day = f"addDays(toDate32('1970-01-01'), {given})"
        return [
            f"{self.column} {operator}{'=' * (operator == '<')} {day}",
            f"{self._integer} {operator} {given}",
        ]
