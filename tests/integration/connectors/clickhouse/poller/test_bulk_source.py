"""Pages that ClickHouse made, against the real engine: to the byte what Python makes of the same rows."""

from __future__ import annotations

import csv
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller import bulk_source as module
from connectors.clickhouse.poller.bulk_page import BulkPage
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.publisher import Publisher
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.source.table import NextRows, SourceRow
from streams.core.codec import CREATED_AT
from streams.core.errors import UnavailableError
from streams.core.records import Record
from streams.core.settings import Settings
from streams.core.times import micros_of
from tests.unit.connectors.clickhouse.poller.fakes import PARTITIONS, TOPICS, FakeKafka, FakeLease

START = datetime(2026, 3, 29, 0, 59, 58, 123456, tzinfo=UTC)
NOW = micros_of(START) + 10**12
HOSTILE = Path(__file__).parents[4] / "data/hostile_queries.csv"

_POLLED = re.compile(rb'"polled_at":"[^"]+"')


async def make(
    client: ClickHouseClient, db: str, columns: str, *, sorted_: bool = True, **settings: Any
) -> BulkSource:
    """A source; ``sorted_``: by its time, or not at all."""
    configured = Settings(clickhouse_database=db, **settings)
    key = f"`{configured.clickhouse_timestamp_column}`" if sorted_ else "tuple()"
    await client.command(
        f"CREATE TABLE {db}.logs ({columns}) ENGINE = MergeTree ORDER BY {key} "
        "SETTINGS allow_nullable_key = 1"
    )
    return BulkSource(client, configured)


class Publishing:
    """A publisher to a Kafka in memory."""

    def __init__(self) -> None:
        self.kafka = FakeKafka()
        self.counts: Counter[str] = Counter()
        self.publisher = Publisher(
            "esk.logs",
            TOPICS,
            partitions=PARTITIONS,
            least_bytes=3,
            sender=self.kafka,
            lease=FakeLease(),
            counts=self.counts,
        )

    async def learn(self) -> None:
        starts = dict.fromkeys(self.publisher.written, 0)
        await self.publisher.learn(self.kafka, starts, None, (), NOW)

    async def all_of(self, pages: AsyncIterator[BulkPage | list[SourceRow]]) -> int:
        made = 0
        async for page in pages:
            made += sum(page.plain) if isinstance(page, BulkPage) else 0
            await self.publisher.publish(page, 1, NOW)
        await self.publisher.finish()
        return made

    def records(self) -> list[Record]:
        return [record for log in self.kafka.logs.values() for record in log]

    def messages(self, shared: frozenset[bytes] = frozenset()) -> list[Any]:
        """Everything but the time of polling, sorted. Of rows that share an id (``shared``) any may have it
        as it is, where they share a time too: of those everything but the name."""
        found = []
        for record in self.records():
            key, value = record.key or b"", _POLLED.sub(b"", record.value or b"")
            headers = {name: content for name, content in record.headers if name != "failed-at"}
            if (plain := key.partition(b"~")[0]) in shared:
                key, value = plain, value.partition(b",")[2]
                headers = {CONTENT: headers[CONTENT], CREATED_AT: headers.get(CREATED_AT, b"")}
            found.append((record.topic, record.partition, key, value, headers.items()))
        return sorted(found, key=repr)

    def shared(self) -> frozenset[bytes]:
        return frozenset(
            (record.key or b"").partition(b"~")[0] for record in self.records() if b"~" in (record.key or b"")
        )


async def assert_the_same(source: BulkSource, least_made: int = 1) -> None:
    """Both ways publish the same, and each knows again what the other published."""
    by_hand, in_bulk = Publishing(), Publishing()
    await by_hand.learn()
    await in_bulk.learn()
    await by_hand.all_of(source.pages(None))
    assert await in_bulk.all_of(source.bulk(None)) >= least_made
    shared = by_hand.shared() | in_bulk.shared()
    assert by_hand.messages(shared) == in_bulk.messages(shared)
    assert len({record.key for record in in_bulk.records()}) == len(in_bulk.records())
    assert by_hand.counts == in_bulk.counts
    for there, again in ((by_hand, source.bulk), (in_bulk, source.pages)):
        before = there.messages()
        await there.all_of(again(None))
        assert there.messages() == before
        await there.learn()  # from the topic alone; what was skipped is in none
        await there.all_of(again(None))
        assert there.messages() == before


# Columns, settings, and what goes in: h is a text, t microseconds, n counts. Other columns are as
# ClickHouse makes them up.
TABLES: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "usual": (
        "id UInt64, query_text String, created_at DateTime64(3, 'Europe/Moscow'), "
        "user_id String, session_id String, domain LowCardinality(String)",
        {},
        {"id": "intDiv(n, 1.1)", "user_id": "substring(h, 2, 9)", "domain": "substring(h, 1, 1)"},
    ),
    "halves of letters": (
        "id String, query_text String, created_at DateTime, user_id String, session_id String, domain String",
        {},
        {
            "id": "concat(toString(n), if(n % 2 = 0, unhex('D0'), ''))",
            "user_id": "unhex(if(n % 2 = 0, '90', '61D0'))",
            "session_id": "unhex(if(n % 3 = 0, '9062', ''))",
            "domain": "unhex(if(n % 5 = 0, 'FF', ''))",
        },
    ),
    "without an id": (
        "query_text String, created_at DateTime64(6), user_id UInt32",
        {},
        {"user_id": "n % 7"},
    ),
    "everything may be missing": (
        "id Nullable(String), query_text Nullable(String), created_at Nullable(DateTime64(6)), "
        "user_id Nullable(String), session_id Nullable(String), domain LowCardinality(Nullable(String))",
        {},
        {
            "id": "if(n % 5 = 0, NULL, if(n % 7 = 0, '', concat('№', toString(n))))",
            "user_id": "if(n % 3 = 0, NULL, reverse(h))",
            "session_id": "if(n % 4 = 0, '\\\\\"/', NULL)",
        },
    ),
    "fixed lengths": (
        "id FixedString(8), query_text FixedString(40), created_at DateTime, user_id FixedString(4)",
        {},
        {"id": "if(n % 3 = 0, '12345678', toString(n))", "user_id": "if(n % 2 = 0, 'u', 'ABCD')"},
    ),
    "names of its own": (
        "`at` DateTime64(9, 'Asia/Kathmandu'), `text` LowCardinality(String), `key` UUID, `value` Int128, "
        "`id` String",
        {
            "clickhouse_timestamp_column": "at",
            "clickhouse_text_column": "text",
            "clickhouse_id_column": "key",
            "clickhouse_user_id_column": "value",
            "clickhouse_session_id_column": "id",
        },
        {"key": "if(n % 9 = 0, toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0'), generateUUIDv4())"},
    ),
    "names of the query's": (
        "`sha` Date32, `plain` String, `names` Enum8('a' = 1, 'b' = 2), `created` Decimal(18, 4), `raw` Date",
        {
            "clickhouse_timestamp_column": "sha",
            "clickhouse_text_column": "plain",
            "clickhouse_id_column": "names",
            "clickhouse_user_id_column": "created",
            "clickhouse_domain_column": "raw",
        },
        {"names": "if(n % 2 = 0, 'a', 'b')"},
    ),
}
WORDS = ["где", "Мой", "ЗАКАЗ", "ёлка", "Ёж", "«12»", "—", "a/b", '"x"', "\\n", "it's", "{}", "%s", "z" * 50]
STRANGE = [
    "№ 5",
    "😀",
    "\t",
    " два  пробела ",
    "ﬁ",
    "é",
    "\x00",
    "\x1f",
    "\x7f",
    "ß",
    "İ",
    "…",
    "\u200b",
    "да",
]


def texts(chance: random.Random, count: int) -> list[str]:
    with HOSTILE.open(encoding="utf-8", newline="") as lines:
        hostile = [row["query_text"] for row in csv.DictReader(lines)]
    found = [*hostile, "", "   ", "ends so\n", "abc", "abcd", "x" * 70_000, "же" * 200_000]
    while len(found) < count:
        words = chance.choices(WORDS, k=chance.randint(1, 6))
        if chance.random() < 0.2:
            words.insert(chance.randint(0, len(words)), chance.choice(STRANGE))
        found.append(" ".join(words))
    return found


_LATER = [0, 0, 544, 250_000, 10**6, 86_400 * 10**6]


async def fill(
    client: ClickHouseClient, db: str, source: BulkSource, name: str, chance: random.Random
) -> None:
    columns, _, values = TABLES[name]
    structure = columns.replace("'", "\\'")
    # Dates that ClickHouse makes up are of all times, those before 1970 too.
    await client.command(
        f"INSERT INTO {db}.logs SELECT * FROM generateRandom('{structure}', 1, 12, 2) LIMIT 200"
    )
    shape = await source.shape()
    longest = 40 if "FixedString(40)" in columns else 10**6
    given_texts = [text.encode()[:longest].decode("utf-8", "ignore") for text in texts(chance, 500)]
    times = [micros_of(START) + chance.choice(_LATER) for _ in given_texts]
    await client.command(f"CREATE TABLE {db}.given (h String, t Int64, n UInt32) ENGINE = Memory")
    await client.insert("given", ["h", "t", "n"], [given_texts, times, list(range(len(times)))], database=db)
    named = "".join(f", `{column}`" for column in values)
    given = "".join(f", {value}" for value in values.values())
    await client.command(
        f"INSERT INTO {db}.logs ({shape.text.column}, {shape.time.column}{named}) "
        f"SELECT h, fromUnixTimestamp64Micro(t, 'UTC'){given} "
        f"FROM {db}.given"
    )


@pytest.mark.parametrize("name", TABLES)
async def test_both_ways_publish_the_same(client: ClickHouseClient, db: str, name: str) -> None:
    columns, settings, _ = TABLES[name]
    source = await make(client, db, columns, sorted_=len(name) % 2 == 0, **settings)
    await fill(client, db, source, name, random.Random(name))
    await assert_the_same(source, least_made=30)


async def test_pages_end_between_moments_and_hold_every_row(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moments of one row, of many, and of more than a page; a page that grew since it was counted."""
    monkeypatch.setattr(module, "_MOST_ROWS", 50)
    source = await make(client, db, "id UInt64, query_text String, created_at DateTime64(6)")
    times = [at if at < 200 else 200 + (at - 200) // 30 if at < 500 else 300 for at in range(700)]
    await client.insert(
        "logs",
        ["id", "query_text", "created_at"],
        [list(range(700)), ["text"] * 700, [START + timedelta(microseconds=at) for at in times]],
        database=db,
    )
    pages = [page async for page in source.bulk(None)]
    made = [page for page in pages if isinstance(page, BulkPage)]
    assert 8 <= len(made) < len(pages)
    assert all(len(page) < 100 for page in made)
    keys = [key for page in made for key in page.keys]
    keys += [row.id or b"" for page in pages if isinstance(page, list) for row in page]
    assert sorted(map(int, keys)) == list(range(700))
    assert [key async for page in source.bulk(NOW) for key in page] == []
    since, until = micros_of(START) + 10, micros_of(START) + 20
    some = [page async for page in source.bulk(since, until)]
    assert [len(page) for page in some] == [10]
    counted = source._ahead

    async def fewer(since: int | None, until: int | None, most: int) -> NextRows:
        found = await counted(since, until, most)
        return found._replace(full=False) if since is None else found

    monkeypatch.setattr(source, "_ahead", fewer)
    grown = [page async for page in source.bulk(None)]
    assert not any(isinstance(page, BulkPage) for page in grown)
    assert sum(map(len, grown)) == 700


@pytest.mark.parametrize("sorted_", [True, False])
async def test_pages_of_long_texts_have_fewer_rows(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch, sorted_: bool
) -> None:
    monkeypatch.setattr("connectors.clickhouse.source.table.PAGE_BYTES", 100_000)
    monkeypatch.setattr(module, "PAGE_BYTES", 100_000)
    columns = "id UInt64, query_text String, created_at DateTime64(6)"
    source = await make(client, db, columns, sorted_=sorted_)
    lengths = [10] * 1000 + [20_000] * 40 + [400_000] * 3 + [10] * 1000
    await client.insert(
        "logs",
        ["id", "query_text", "created_at"],
        [
            list(range(len(lengths))),
            ["x" * length for length in lengths],
            [START + timedelta(microseconds=at) for at in range(len(lengths))],
        ],
        database=db,
    )
    for pages in (source.bulk(None), source.pages(None)):
        found = [page async for page in pages]
        assert sum(map(len, found)) == len(lengths)
        made = [page for page in found if isinstance(page, BulkPage)]
        sizes = [sum(map(len, page.values)) for page in made]
        sizes += [sum(len(row.text or b"") for row in page) for page in found if isinstance(page, list)]
        assert max(sizes) < 800_000  # each of the longest alone, or with what is short beside it
        assert sum(size > 450_000 for size in sizes) <= 1
        assert len(found) < 60


async def test_a_query_that_fails_is_read_by_hand(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await make(client, db, "id UInt64, query_text String, created_at DateTime")
    await client.command(f"INSERT INTO {db}.logs SELECT number, 'a text', now() FROM numbers(5)")
    assert await source._trust()
    monkeypatch.setattr(module, "making", lambda rows: f"SELECT throwIf(1) FROM ({rows})")
    pages = [page async for page in source.bulk(None)]
    assert [len(page) for page in pages if isinstance(page, list)] == [5]
    assert source._trusted is False


async def test_a_server_that_makes_something_else_is_not_believed(
    client: ClickHouseClient, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await make(client, db, "id UInt64, query_text String, created_at DateTime")
    await client.command(f"INSERT INTO {db}.logs SELECT number, 'a text', now() FROM numbers(5)")
    whole = module.making
    for other in ("upper(key) AS key", "noSuch(1) AS key"):

        def changed(rows: str, other: str = other) -> str:
            assert "key AS key" in whole(rows)
            return whole(rows).replace("key AS key", other, 1)

        monkeypatch.setattr(module, "making", changed)
        source._trusted = None
        pages = [page async for page in source.bulk(None)]
        assert source._trusted is False
        assert [isinstance(page, BulkPage) for page in pages] == [False]
    monkeypatch.setattr(module, "making", whole)
    source._trusted = None
    assert [isinstance(page, BulkPage) async for page in source.bulk(None)] == [True]


async def test_a_server_that_is_away_is_asked_again() -> None:
    away = BulkSource(ClickHouseClient(host="127.0.0.1", port=9, username="u", password=""), Settings())
    with pytest.raises(UnavailableError):
        await away._trust()
    assert away._trusted is None


@pytest.mark.parametrize(
    ("time", "id_"),
    [("DateTime", "UInt64"), ("Nullable(DateTime64(6))", "Nullable(String)"), ("Date", "UInt64")],
)
async def test_the_newest_rows_and_the_clock_come_with_one_query(
    client: ClickHouseClient, db: str, time: str, id_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await make(client, db, f"id {id_}, query_text String, created_at {time}")
    await source.shape()
    told: list[int] = []

    async def newest() -> list[SourceRow]:
        return [row async for page in source.newest(None, told.append) for row in page]

    assert await newest() == []
    await client.command(
        f"INSERT INTO {db}.logs SELECT number % 500, 'text ' || toString(number), now() - number % 3 "
        "FROM numbers(1000)"
    )
    before = await source.now()
    queries: list[str] = []
    columns = client.columns

    async def counted(sql: str, *arguments: Any, **named: Any) -> Any:
        queries.append(sql)
        return await columns(sql, *arguments, **named)

    monkeypatch.setattr(client, "columns", counted)
    monkeypatch.setattr(client, "rows", None)
    found = await newest()
    assert len(queries) == 1
    monkeypatch.undo()
    assert told[0] <= before <= told[1] <= await source.now()
    assert found == [row async for page in source.pages(None) for row in page]
    assert len(found) == 1000
