"""Source tables as strangers have them, on the real engine: each row once by each reader, or refused by name.

A case is drawn anew in each run; a failure names its seed, and `case(seed)` makes it again. `make
soak-tables` draws many, and from servers of other zones.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.poller.backfill import OldRows, poller_begins
from connectors.clickhouse.poller.bulk_source import BulkSource
from connectors.clickhouse.poller.cursor import Cursor
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.source.table import SourceTable
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings
from streams.files.fetch import export
from streams.operations.check import check_source
from tests.integration.tables.cases import case
from tests.integration.tables.readers import Reading
from tests.integration.tables.server import server
from tests.integration.tables.trial import Address, drop_database, prepare, small_pages, troubles
from tests.unit.connectors.clickhouse.poller.fakes import TOPICS

_SEED = random.SystemRandom().randrange(10**9)
EAST = "Asia/Vladivostok"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A server east of UTC, where a day begins before it does in UTC."""
    with server(tmp_path_factory.mktemp("east"), EAST) as found:
        asyncio.run(prepare(found))
        yield found


@pytest.fixture
async def client(address: Address) -> AsyncIterator[ClickHouseClient]:
    client = ClickHouseClient(host=address[0], port=address[1], username="default", password="")
    await drop_database(client, "t")
    await client.command("CREATE DATABASE t")
    yield client
    await client.close()


def settings_for(address: Address, **given: Any) -> Settings:
    return Settings(
        clickhouse_host=address[0],
        clickhouse_port=address[1],
        clickhouse_database="t",
        clickhouse_table="source",
        clickhouse_result_database="results",
        **given,
    )


async def test_each_row_is_found_once_by_each_reader(address: Address, tmp_path: Path) -> None:
    drawn = case(_SEED)
    told = await troubles(address, drawn, tmp_path)
    assert not told, "\n".join([str(drawn), *told])


@pytest.mark.parametrize("kind", ["Date", "LowCardinality(Nullable(Date32))"])
async def test_days_of_more_rows_than_a_page(
    address: Address, client: ClickHouseClient, tmp_path: Path, kind: str
) -> None:
    client.call(lambda driver: driver.set_client_setting("allow_suspicious_low_cardinality_types", 1))
    await client.command(
        f"CREATE TABLE t.source (id UInt64, query_text String, created_at {kind}) "
        "ENGINE = MergeTree ORDER BY id"
    )
    await client.command(
        "INSERT INTO t.source SELECT number, concat('question ', toString(number)), "
        "toDate('2026-01-01') + intDiv(number, 240) FROM numbers(600)"
    )
    reading = Reading(client, settings_for(address), None, random.Random(1))
    first = 1_767_225_600
    days = Counter({(first + day * 86_400) * 10**6: rows for day, rows in enumerate((240, 240, 120))})
    with small_pages(rows=100):
        for name, read in reading.readers(tmp_path).items():
            seen = await read()
            assert len(seen) == seen.total() == 600, name
            assert Counter(at for _, at in seen) == days, name


@pytest.mark.parametrize("turn", range(6))
async def test_any_column_may_have_one_of_our_names(
    address: Address, client: ClickHouseClient, turn: int
) -> None:
    """Each column has each of the names once."""
    columns = {"timestamp": "DateTime"}
    columns |= dict.fromkeys(("text", "id", "user_id", "session_id", "domain"), "String")
    ours = ("at", "tie", "text_", "select", "source", "column")
    names = dict(zip(columns, ours[turn:] + ours[:turn], strict=True))
    body = ", ".join(f"`{names[one]}` {kind}" for one, kind in columns.items())
    await client.command(f"CREATE TABLE t.source ({body}) ENGINE = MergeTree ORDER BY `{names['timestamp']}`")
    await client.command(
        "INSERT INTO t.source SELECT 1767225600 + number, concat('question ', toString(number)), "
        "concat('i', toString(number)), concat('u', toString(number)), 's', 'd' FROM numbers(3)"
    )
    given = {f"clickhouse_{one}_column": column for one, column in names.items()}
    source = BulkSource(client, settings_for(address, **given))
    rows = [row async for page in source.pages(1_767_225_600_000_000, None) for row in page]
    made = [page async for page in source.bulk(1_767_225_600_000_000, None)]
    assert [row[2:] for row in rows] == [
        (f"i{n}".encode(), f"question {n}".encode(), f"u{n}".encode(), b"s", b"d") for n in range(3)
    ]
    assert sum(map(len, made)) == 3
    finding = await check_source(settings_for(address, **given))
    assert finding.ok, finding


# --- what cannot be read so that each row comes once ---


_COMPUTED = {
    "a time that is now": [
        "CREATE TABLE t.source (id UInt64, query_text String, created_at DateTime ALIAS now()) "
        "ENGINE = MergeTree ORDER BY id",
        "INSERT INTO t.source (id, query_text) SELECT number, 'question' FROM numbers(200)",
    ],
    "an id made up": [
        "CREATE TABLE t.source (query_text String, created_at DateTime, id UUID ALIAS generateUUIDv4()) "
        "ENGINE = MergeTree ORDER BY created_at",
        "INSERT INTO t.source SELECT 'question', number FROM numbers(200)",
    ],
    "a default that came later than the rows": [
        "CREATE TABLE t.source (query_text String, created_at DateTime) ENGINE = MergeTree ORDER BY tuple()",
        "INSERT INTO t.source SELECT 'question', number FROM numbers(200)",
        "ALTER TABLE t.source ADD COLUMN id UUID DEFAULT generateUUIDv4()",
    ],
    "a view's": [
        "CREATE TABLE t.below (id UInt64) ENGINE = MergeTree ORDER BY id",
        "INSERT INTO t.below SELECT number FROM numbers(10)",
        "CREATE VIEW t.source AS SELECT id, 'question' AS query_text, now64(6) AS created_at FROM t.below",
    ],
}


@pytest.mark.parametrize("which", _COMPUTED)
async def test_rows_that_are_others_at_each_reading_are_refused(
    address: Address, client: ClickHouseClient, which: str
) -> None:
    for statement in _COMPUTED[which]:
        await client.command(statement)
    with pytest.raises(ConfigurationError, match="computed at each reading") as refused:
        await SourceTable(client, settings_for(address)).verify()
    assert refused.value.setting == "CLICKHOUSE_TABLE"
    finding = await check_source(settings_for(address))
    assert not finding.ok
    assert finding.fix


async def test_a_default_that_is_kept_is_no_reason(address: Address, client: ClickHouseClient) -> None:
    await client.command(
        "CREATE TABLE t.source (query_text String, created_at DateTime64(3) DEFAULT now64(3), "
        "id UUID DEFAULT generateUUIDv4()) ENGINE = MergeTree ORDER BY created_at"
    )
    await client.command("INSERT INTO t.source (query_text) SELECT 'question' FROM numbers(200)")
    await SourceTable(client, settings_for(address)).verify()
    await client.command("ALTER TABLE t.source ADD COLUMN number UUID DEFAULT generateUUIDv4()")
    await client.command("ALTER TABLE t.source MATERIALIZE COLUMN number SETTINGS mutations_sync = 2")
    await SourceTable(client, settings_for(address, clickhouse_id_column="number")).verify()


async def test_a_view_with_parameters_is_refused(address: Address, client: ClickHouseClient) -> None:
    await client.command(
        "CREATE VIEW t.source AS SELECT number AS id, 'q' AS query_text, now() AS created_at "
        "FROM numbers({most:UInt64})"
    )
    with pytest.raises(ConfigurationError, match="parameters") as refused:
        await SourceTable(client, settings_for(address)).inspect()
    assert refused.value.setting == "CLICKHOUSE_TABLE"


# --- what is read, and gives nothing ---


@pytest.mark.parametrize(
    ("columns", "values", "given", "reason", "setting"),
    [
        ("created_at Nullable(DateTime)", "number, 'question', NULL", {}, "none of them with a time",
         "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ("created_at DateTime", "number, 'a', number", {}, "3 bytes or fewer", "CLICKHOUSE_TEXT_COLUMN"),
    ],
)  # fmt: skip
async def test_check_says_why_nothing_comes_of_a_table_with_rows(
    address: Address,
    client: ClickHouseClient,
    columns: str,
    values: str,
    given: Any,
    reason: str,
    setting: str,
) -> None:
    await client.command(
        f"CREATE TABLE t.source (id UInt64, query_text String, {columns}) ENGINE = MergeTree ORDER BY id"
    )
    finding = await check_source(settings_for(address, **given))
    assert finding.ok
    assert "empty so far" in finding.message
    await client.command(f"INSERT INTO t.source SELECT {values} FROM numbers(5)")
    finding = await check_source(settings_for(address, **given))
    assert (finding.ok, finding.setting) == (False, setting)
    assert reason in finding.message
    assert finding.fix


async def test_check_tells_what_to_know_of_a_table(address: Address, client: ClickHouseClient) -> None:
    await client.command(
        "CREATE TABLE t.source (id UInt64, query_text String, created_at Date) "
        "ENGINE = ReplacingMergeTree ORDER BY id"
    )
    await client.command("INSERT INTO t.source SELECT number, 'question', '2100-01-01' FROM numbers(5)")
    finding = await check_source(settings_for(address, poll_start="2101-01-01T00:00:00Z"))
    assert finding.ok
    for note in (
        "is a date",
        "does not begin with the time",
        "newest version",
        "in the future",
        "POLL_START",
    ):
        assert note in finding.message


# --- what the user may not ---


async def test_rows_that_a_policy_hides_are_none(address: Address, client: ClickHouseClient) -> None:
    await client.command("DROP DATABASE IF EXISTS policed")
    await client.command("CREATE DATABASE policed")
    await client.command(
        "CREATE TABLE policed.source (id UInt64, query_text String, created_at DateTime, for_everybody Bool) "
        "ENGINE = MergeTree ORDER BY created_at"
    )
    insert = "INSERT INTO policed.source SELECT number, 'question', number, "
    await client.command(f"{insert} 0 FROM numbers(10)")
    settings = settings_for(address).model_copy(update={"clickhouse_database": "policed"})
    finding = await check_source(settings)
    assert (finding.ok, finding.setting) == (False, "CLICKHOUSE_USERNAME")
    assert "stores 10 rows" in finding.message
    await client.command(f"{insert} number % 2 FROM numbers(100)")
    reading = Reading(client, settings, None, random.Random(1))
    assert sum((await reading.bulk()).values()) == 50
    assert await reading.counts() == 50
    assert (await check_source(settings)).ok


@pytest.mark.parametrize("engine", ["MergeTree ORDER BY id", "ReplacingMergeTree ORDER BY id"])
async def test_a_user_who_may_change_no_setting_reads_a_view(
    address: Address, client: ClickHouseClient, engine: str
) -> None:
    """Without `final`; a row that was replaced comes as well, and `check` says so."""
    await client.command(
        f"CREATE TABLE t.below (id UInt64, query_text String, created_at DateTime) ENGINE = {engine}"
    )
    await client.command("CREATE VIEW t.source AS SELECT * FROM t.below")
    await client.command("INSERT INTO t.below SELECT number, 'question', number FROM numbers(10)")
    client.call(lambda driver: driver.set_client_setting("readonly", 1))
    settings = settings_for(address)
    reading = Reading(client, settings, None, random.Random(1))
    assert sum((await reading.pages()).values()) == sum((await reading.bulk()).values()) == 10
    source = SourceTable(client, settings)
    await source.verify()
    assert any("may not change the setting final" in note for note in await source.notes())
    await SourceTable(client, settings.model_copy(update={"clickhouse_table": "below"})).verify()


# --- days, and where reading begins ---


@pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"])
async def test_rows_of_now_are_neither_of_the_future_nor_before_the_start(
    address: Address, client: ClickHouseClient, zone: str
) -> None:
    """Whatever the calendar of the session, and whatever of a time the column keeps."""
    client.call(lambda driver: driver.set_client_setting("session_timezone", zone))
    for kind, written in (
        ("Date", "today()"),
        ("Date32", "toDate32(today())"),
        ("DateTime", "now()"),
        ("DateTime64(3)", "now64(3)"),
        ("DateTime64(9, 'Asia/Tokyo')", "now64(9)"),
    ):
        await client.command("DROP TABLE IF EXISTS t.source SYNC")
        await client.command(
            f"CREATE TABLE t.source (id UInt64, query_text String, created_at {kind}) "
            "ENGINE = MergeTree ORDER BY created_at"
        )
        source = SourceTable(client, settings_for(address))
        floor = await source.floor("now")
        await client.command(f"INSERT INTO t.source SELECT 1, 'question', {written}")
        assert await source.count(floor, None) == 1, kind
        assert await source.count(None, await source.now() + 1) == 1, kind
        assert await source.count(await source.begin(0), None) == 1, kind
        assert await source.count(await source.begin(1), await source.begin(0)) == 0, kind
        assert await source.begin(20_000) is None


@pytest.mark.parametrize("days", [0, 1])
@pytest.mark.parametrize("kind", ["Date", "Date32", "DateTime", "DateTime64(6, 'America/New_York')"])
async def test_a_fetch_and_its_job_read_the_days_of_the_server(
    address: Address, client: ClickHouseClient, tmp_path: Path, kind: str, days: int
) -> None:
    """The file and the backfill have the same rows: today's, and those of the days before."""
    await client.command(
        f"CREATE TABLE t.source (id UInt64, query_text String, created_at {kind}) "
        "ENGINE = MergeTree ORDER BY created_at"
    )
    await client.command(
        "INSERT INTO t.source SELECT number, concat('question ', toString(number)), "
        "if(number < 10, today() - number, now())::DateTime FROM numbers(11)"
    )
    settings = settings_for(address, labelstream_data=tmp_path)
    fetched = await export(settings, days=days, limit=None)
    wanted = {str(number) for number in (*range(days + 1), 10)}
    assert fetched.rows == len(wanted)
    old = OldRows(client, settings, TOPICS, since=fetched.since, until=fetched.until + 1)
    found = [row.row_id async for rows, _, _ in old.pages(None, PassingRows()) for row, *_ in rows]
    assert Counter(found) == Counter(wanted)
    assert await old.count() == len(wanted)
    # Where a poller begins it may still be a row of a day that is not over.
    coarse = await SourceTable(client, settings).coarseness()
    assert fetched.coarse == coarse == (86_400_000_000 if kind.startswith("Date3") or kind == "Date" else 0)


async def test_a_backfill_of_dates_ends_where_the_rows_of_the_poller_begin(
    address: Address, client: ClickHouseClient
) -> None:
    """Whatever the watermark is: a day belongs to one of the two."""
    await client.command(
        "CREATE TABLE t.source (id UInt64, query_text String, created_at Date) ENGINE = MergeTree ORDER BY id"
    )
    await client.command(
        "INSERT INTO t.source SELECT number, concat('question ', toString(number)), "
        "toDate('2026-01-01') + intDiv(number, 2) FROM numbers(20)"
    )
    settings = settings_for(address, poll_lookback_seconds=600.0)
    source = SourceTable(client, settings)
    day = 86_400_000_000
    first = 1_767_225_600_000_000
    for watermark in (first + 3 * day, first + 5 * day - 1, first + 6 * day):
        begins = poller_begins(Cursor(watermark=watermark, coarse=await source.coarseness()), settings)
        old = OldRows(client, settings, TOPICS, since=None, until=begins)
        filled = {row.row_id async for rows, _, _ in old.pages(None, PassingRows()) for row, *_ in rows}
        polled = {(row.id or b"").decode() async for page in source.pages(begins) for row in page}
        assert filled | polled == set(map(str, range(20)))
        assert not filled & polled
        # A row of the watermark's day may still come, and the poller must find it.
        assert begins <= watermark - day


# --- versions of a row ---


async def test_doubles_that_come_later_are_no_new_rows(address: Address, client: ClickHouseClient) -> None:
    await client.command(
        "CREATE TABLE t.source (id UInt64, query_text String, created_at DateTime, version UInt8) "
        "ENGINE = ReplacingMergeTree(version) ORDER BY id"
    )
    await client.command("SYSTEM STOP MERGES t.source")
    source = BulkSource(client, settings_for(address))
    insert = "INSERT INTO t.source SELECT number, concat('question ', toString(number)), 1767225600 + number"
    for version in (1, 1, 2):
        await client.command(f"{insert}, {version} FROM numbers(20)")
        for pages in (source.pages(None), source.bulk(None), source.bulk(1_767_225_600_000_000)):
            assert [len(page) async for page in pages] == [20]
        assert await source.count(None, None) == 20
    # The newest stands at another time: the older one is no longer there.
    await client.command("INSERT INTO t.source VALUES (3, 'another question', 1767225700, 3)")
    rows = [row async for page in source.pages(1_767_225_600_000_000, 1_767_225_700_000_000) for row in page]
    assert {row.id for row in rows} == {str(n).encode() for n in range(20) if n != 3}
    assert await source.count(1_767_225_700_000_000, None) == 1


async def test_ids_of_any_bytes_have_names_of_their_own(address: Address, client: ClickHouseClient) -> None:
    await client.command(
        "CREATE TABLE t.source (id FixedString(4), query_text String, created_at DateTime) "
        "ENGINE = MergeTree ORDER BY created_at"
    )
    await client.command(
        "INSERT INTO t.source SELECT unhex(arrayJoin(['FF000001', 'FE000001', '61620000', '61000000'])), "
        "'the same question', 1767225600"
    )
    reading = Reading(client, settings_for(address), None, random.Random(1))
    await reading.backfill()
    assert sorted(reading.ids.elements()) == ["0xfe000001", "0xff000001", "a", "ab"]
