"""Source tables as strangers have them, made by chance: types, names, zones, engines, and what is in them.

What is to be found is reckoned here in whole numbers, without the server.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from connectors.clickhouse.source.shape import FIELDS
from streams.core.messages import Augmented, DeadLetter, Labeled, Row

_CONNECTOR = Path(__file__).parents[3] / "connectors/clickhouse"
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_FIRST = (datetime.min.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days * _DAY
_LAST = (datetime(9999, 12, 31, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).days * _DAY + _DAY - 1

ZONES = (
    "UTC",
    "Asia/Vladivostok",
    "Europe/Moscow",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Asia/Kathmandu",
    "Pacific/Apia",
    "Pacific/Honolulu",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
)
_YEARS = ("1900-01-01", "1969-12-31", "1970-01-01", "2106-02-07", "2149-06-06", "2262-04-11", "2299-12-31")
_WORDS = (
    "select from where as at tie size text time id key value order by limit with ties final prewhere sample "
    "array join interval date timestamp table database null NULL true false inf nan now today count "
    "default alias materialized distinct union all format settings using on left right in is not and or "
    "between case when then else end cast if"
)
_STRANGE = (
    "моё поле", "Текст запроса", "時間", "a.b", "source.at", "два  пробела", " blank", "(brackets)", "a,b",
    "*", "-- x", "/* x */", "{since:Int64}", "{rows:UInt64}", "%s", "%(x)s", "?", "#", "1", "-1", "count()",
    "now()", "labelstream", "labelstream_time", "labelstream_id", "labelstream2_time", "😀", "\u00a0",
    "_part", "_table",
)  # fmt: skip


@cache
def our_names() -> list[str]:
    """Whatever stands behind AS in the connector's SQL, the fields of the messages, and words of SQL."""
    found = {
        name
        for path in _CONNECTOR.rglob("*.py")
        for name in re.findall(r"\bAS `?(\w+)", path.read_text("utf-8"))
    }
    fields = {name for kind in (Row, Labeled, Augmented, DeadLetter) for name in kind.model_fields}
    return sorted(found | fields | {*FIELDS, *FIELDS.values(), "domain", "ts", *_WORDS.split(), *_STRANGE})


@dataclass(frozen=True)
class Time:
    """A type of times, the unit of its integer as microseconds (``unit``) or as parts of one (``parts``), and
    the integers that it holds."""

    name: str
    unit: int
    parts: int
    least: int
    most: int

    def micros(self, tick: int) -> int:
        """Microseconds since 1970; beyond the years 1 to 9999 the first or the last of the type's values, and
        before the first whole microsecond of the type that one."""
        first = -(-self.least // self.parts) * self.parts
        found = max(tick, first) * self.unit // self.parts
        return max(_FIRST, min(found, _LAST - _LAST % self.unit))

    def sql(self, tick: str) -> str:
        """A value of the type from ``tick``, an Int64."""
        if self.name == "Date":
            return f"toDate(toUInt16({tick}))"
        if self.name == "Date32":
            return f"addDays(toDate32('1970-01-01'), toInt32({tick}))"
        if self.name.startswith("DateTime64"):
            return "reinterpret({}, '{}')".format(tick, self.name.replace("'", "\\'"))
        return f"toDateTime(toUInt32({tick}))"


def times(chance: random.Random) -> Time:
    """One of the types."""
    zone = chance.choice(ZONES)
    kind = chance.randrange(14)
    if kind == 0:
        return Time("Date", _DAY, 1, 0, 65535)
    if kind == 1:
        return Time("Date32", _DAY, 1, -719_162, 2_932_896)
    if kind in (2, 3):
        return Time("DateTime" if kind == 2 else f"DateTime('{zone}')", _SECOND, 1, 0, 2**32 - 1)
    scale = kind - 4
    named = f"DateTime64({scale}, '{zone}')" if chance.random() < 0.6 else f"DateTime64({scale})"
    limit = min(2**63 - 1, 400_000_000_000 * 10**scale)
    return Time(named, 10 ** max(6 - scale, 0), 10 ** max(scale - 6, 0), -limit, limit)


def moments(chance: random.Random, time: Time, count: int) -> list[int]:
    """Integers of the type: changes of clocks, its ends, the years around which types end, and one moment of
    more rows than a page."""
    per_second = time.parts * _SECOND // time.unit if time.unit <= _SECOND else 0
    special = [0, 1, -1, time.least, time.least + 1, time.most, time.most - 1]
    for year in _YEARS:
        days = (datetime.fromisoformat(year) - datetime(1970, 1, 1)).days
        special += [days + step if not per_second else (days + step) * 86_400 * per_second for step in (0, 1)]
    for zone in chance.sample(ZONES, 3):
        changed = _change_of_clocks(chance, zone)
        special += [
            changed // 86_400 + step if not per_second else (changed + step) * per_second
            for step in (-3600, -1, 0, 1, 3599, 3600)
        ]
    middle = 1_774_746_000 if per_second else 20_541
    spread = (per_second or 1) * (1 if chance.random() < 0.5 else 1_000)
    crowd = [middle * (per_second or 1)] * (count // 3)
    near = [middle * (per_second or 1) + chance.randrange(-spread, spread + 1) for _ in range(count // 3)]
    chosen = chance.choices(special, k=count - len(crowd) - len(near)) + crowd + near
    chance.shuffle(chosen)
    return [max(time.least, min(tick, time.most)) for tick in chosen]


def _change_of_clocks(chance: random.Random, zone: str) -> int:
    """A second since 1970 at which the zone's offset changed; midnight of some day if there is none."""
    there, at = ZoneInfo(zone), chance.randrange(1_100_000_000, 1_700_000_000, 3600)
    for hour in range(at, at + 366 * 86_400, 3600):
        before, after = (datetime.fromtimestamp(one, there).utcoffset() for one in (hour - 1, hour))
        if before != after:
            return hour
    return at - at % 86_400


ROWS = 45
_NUMBERS = "Enum16({})".format(", ".join(f"'№ {n}' = {n - 20}" for n in range(ROWS)))
# A type, SQL of a value from the number n, and the row id that this value gives.
IDS: dict[str, tuple[str, Callable[[int], str]]] = {
    "UInt64": ("n", lambda n: str(n)),
    "Int128": ("-toInt128(n) * toInt128('100000000000000000000')", lambda n: str(-n * 10**20)),
    "UInt256": ("toUInt256('1' || repeat('0', 70)) + n", lambda n: str(10**70 + n)),
    "String": ("'№ ' || toString(n)", lambda n: f"№ {n}"),
    "LowCardinality(String)": ("'k' || toString(n)", lambda n: f"k{n}"),
    "Nullable(String)": ("'k' || toString(n)", lambda n: f"k{n}"),
    "Nullable(Int64)": ("-n", lambda n: str(-n)),
    "UUID": (
        "toUUID('00000000-0000-4000-8000-' || leftPad(toString(n), 12, '0'))",
        lambda n: f"00000000-0000-4000-8000-{n:012}",
    ),
    "FixedString(8)": ("toString(n)", lambda n: str(n)),
    "FixedString(16)": (
        "unhex('FF00D0') || leftPad(toString(n), 13, '0')",
        lambda n: f"0xff00d0{f'{n:013}'.encode().hex()}",
    ),
    "Decimal(18, 4)": ("toDecimal64(n, 4) + toDecimal64('0.25', 4)", lambda n: f"{n}.25"),
    "IPv4": ("toIPv4('10.0.0.' || toString(n + 1))", lambda n: f"10.0.0.{n + 1}"),
    "IPv6": ("toIPv6('2001:db8::1:' || toString(n))", lambda n: f"2001:db8::1:{n}"),
    "Int256": ("-toInt256(n) - 1", lambda n: str(-n - 1)),
    "LowCardinality(FixedString(8))": ("toString(n)", lambda n: str(n)),
    _NUMBERS: ("'№ ' || toString(n)", lambda n: f"№ {n}"),
    "DateTime": (
        "toDateTime(1700000000 + n)",
        lambda n: datetime.fromtimestamp(1_700_000_000 + n, UTC).strftime("%Y-%m-%d %H:%M:%S"),
    ),
}
USERS = {
    "String": "'u' || toString(n % 7)",
    "Nullable(String)": "if(n % 3 = 0, NULL, 'u' || toString(n % 7))",
    "LowCardinality(Nullable(String))": "if(n % 3 = 0, NULL, 'u' || toString(n % 7))",
    "Enum8('a' = 1, 'б' = 2)": "if(n % 2 = 0, 'a', 'б')",
    "FixedString(6)": "toString(n % 7)",
    "Bool": "n % 2",
    "Float64": "n / 3",
    "UInt8": "n % 200",
    "DateTime64(3)": "toDateTime64(n, 3)",
    "Decimal256(9)": "n",
    "UUID": "toUUID('00000000-0000-4000-8000-00000000000' || toString(n % 7))",
    "Int128": "-toInt128(n)",
    "LowCardinality(FixedString(6))": "toString(n % 7)",
    "Enum16('' = 0, 'два слова' = -300)": "if(n % 2 = 0, '', 'два слова')",
}
TEXTS = (
    "String",
    "Nullable(String)",
    "LowCardinality(String)",
    "LowCardinality(Nullable(String))",
    "FixedString(32)",
    "SimpleAggregateFunction(anyLast, String)",
)
STORES = (
    "MergeTree time", "MergeTree id", "MergeTree", "Memory", "Log", "TinyLog", "StripeLog", "projection",
    "Replacing id", "Replacing time", "Replacing deleted", "Collapsing", "Aggregating", "View",
    "View of two", "View of Replacing", "MaterializedView", "MaterializedView TO", "Merge", "Buffer",
    "Buffer of Replacing", "Distributed", "Distributed of Replacing", "ALIAS", "MATERIALIZED",
)  # fmt: skip
_DOUBLES = {store for store in STORES if "Replacing" in store} | {"Collapsing", "Aggregating"}


@dataclass
class Case:
    """A table, and the rows in it: number, integer of its time (None: NULL)."""

    seed: int
    time: Time
    declared: str
    store: str
    names: dict[str, str]
    types: dict[str, str]
    extra: list[str]
    rows: list[tuple[int, int | None]]
    session_zone: str | None
    database: str
    table: str

    def text(self, number: int) -> str:
        return f"question number {number}"

    @property
    def found(self) -> Counter[tuple[str, int]]:
        """Text and time, in microseconds since 1970, of each row that has a time."""
        return Counter(
            (self.text(number), self.time.micros(tick)) for number, tick in self.rows if tick is not None
        )

    @property
    def ids(self) -> Counter[str] | None:
        """The ids of those rows; None where they have none of their own."""
        if self.names["id"] == "none":
            return None
        named = IDS[self.types["id"]][1]
        return Counter(named(number) for number, tick in self.rows if tick is not None)

    @property
    def settings(self) -> dict[str, str]:
        columns = {f"clickhouse_{part}_column": name for part, name in self.names.items()}
        return {"clickhouse_database": self.database, "clickhouse_table": self.table, **columns}

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.store}, time {self.declared}, session {self.session_zone}, "
            f"table {self.database!r} {self.table!r}, names {self.names}, types {self.types}, "
            f"beside {self.extra}"
        )


def case(seed: int) -> Case:
    """The case of that number."""
    chance = random.Random(seed)
    time, store = times(chance), chance.choice(STORES)
    declared = time.name
    nullable = chance.random() < 0.3
    if nullable:
        declared = f"Nullable({declared})"
    if not time.name.startswith("DateTime64") and chance.random() < 0.2:
        declared = f"LowCardinality({declared})"
    pool = our_names()
    chosen = chance.sample([name for name in pool if name != "none"], 9)
    names = dict(zip(("timestamp", "text", "id", "user_id", "session_id", "domain"), chosen, strict=False))
    types = {"text": chance.choice(TEXTS), "id": chance.choice(list(IDS))}
    types |= {part: chance.choice(list(USERS)) for part in ("user_id", "session_id", "domain")}
    if store in _DOUBLES:
        types["id"] = chance.choice([one for one in IDS if not one.startswith(("Nullable", "Enum"))])
    if chance.random() < 0.15 and store not in _DOUBLES:
        names["id"] = "none"
    ticks: list[int | None] = list(moments(chance, time, ROWS))
    if nullable:
        ticks = [None if chance.random() < 0.1 else tick for tick in ticks]
    return Case(
        seed, time, declared, store, names, types, chosen[6:], list(enumerate(ticks)),
        chance.choice((None, None, *ZONES)), f"t {chance.choice(pool)}", chance.choice(pool),
    )  # fmt: skip
