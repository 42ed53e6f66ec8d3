"""The connector as a library, against a real engine."""

from __future__ import annotations

import io
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector
from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import ConfigurationError, RetryableError
from tests.integration.connectors.clickhouse.engine import BadLine
from tests.waiting import PATIENCE

Address = tuple[str, int]
TEXTS = ["не могу войти", 'с "кавычками", запятой;\nи строкой', "emoji 😀", "'; DROP TABLE logs;--", ""]


@pytest.fixture
def database(address: Address) -> str:
    name = f"c{uuid.uuid4().hex[:8]}"
    run(address, f"CREATE DATABASE {name}")
    return name


def run(address: Address, sql: str) -> Any:
    client = ClickHouseClient(host=address[0], port=address[1], username="default", password="")
    try:
        return client.call(lambda driver: driver.command(sql))
    finally:
        client.call(lambda driver: driver.close())


def usual_table(address: Address, database: str, table: str = "logs") -> None:
    run(
        address,
        f"CREATE TABLE {database}.{table} (id UInt64, query_text String, domain Nullable(String), "
        "created_at DateTime, user_id Nullable(String)) ENGINE = MergeTree ORDER BY created_at",
    )


def connector(address: Address, database: str, **changes: Any) -> ClickHouseConnector:
    values: dict[str, Any] = {"host": address[0], "port": address[1], "database": database}
    return ClickHouseConnector(ClickHouseConfig(**(values | changes)))


@pytest.fixture
def filled(address: Address, database: str) -> Iterator[ClickHouseConnector]:
    """Ten days with three rows each, and some that the rule skips."""
    usual_table(address, database)
    run(
        address,
        f"INSERT INTO {database}.logs SELECT number, 'запрос ' || toString(number), "
        "if(number % 2 = 0, 'house', NULL), toDateTime(today() - intDiv(number, 3)) + number % 3, "
        "if(number % 3 = 0, NULL, 'u' || toString(number)) FROM numbers(30)",
    )
    run(
        address,
        f"INSERT INTO {database}.logs SELECT 100 + number, ['abc', 'да', ''][number + 1], NULL, now(), NULL "
        "FROM numbers(3)",
    )
    with connector(address, database) as opened:
        yield opened


# --- fetch_logs ---


def test_fetches_what_the_requirements_sql_selects(filled: ClickHouseConnector) -> None:
    frame = filled.fetch_logs(days=2)
    assert list(frame.columns) == ["text", "domain", "ts", "user_id"]
    assert str(frame["ts"].dtype) == "datetime64[us, UTC]"
    assert frame["ts"].is_monotonic_decreasing
    # Today and two days before, three rows each; `да` has four bytes, `abc` three.
    assert set(frame["text"]) == {f"запрос {number}" for number in range(9)} | {"да"}
    row = frame[frame["text"] == "запрос 4"].iloc[0]
    assert (row["domain"], row["user_id"]) == ("house", "u4")
    missing = frame[frame["text"] == "запрос 3"].iloc[0]
    assert missing.isna()[["domain", "user_id"]].all()


def test_the_limit_takes_the_newest(filled: ClickHouseConnector) -> None:
    assert list(filled.fetch_logs(days=9, limit=2)["text"]) == ["да", "запрос 2"]
    assert len(filled.fetch_logs(days=9, limit=0)) == 0


@pytest.mark.parametrize(("days", "rows"), [(0, 4), (9, 31), (100_000, 31)])
def test_days_are_counted_from_the_servers_today(filled: ClickHouseConnector, days: int, rows: int) -> None:
    assert len(filled.fetch_logs(days=days)) == rows


def test_an_empty_answer_has_the_columns_and_their_types(address: Address, database: str) -> None:
    usual_table(address, database)
    with connector(address, database) as opened:
        frame = opened.fetch_logs()
    assert frame.empty
    assert list(frame.columns) == ["text", "domain", "ts", "user_id"]
    assert str(frame["ts"].dtype) == "datetime64[us, UTC]"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("DateTime64(3, 'Europe/Moscow')", "2026-03-01 15:00:00.250"),
        ("DateTime('Asia/Tokyo')", "2026-03-01 21:00:00"),
        ("Nullable(DateTime64(9, 'UTC'))", "2026-03-01 12:00:00.250000999"),
        ("Nullable(DateTime('UTC'))", "2026-03-01 12:00:00"),
    ],
)
def test_any_columns_and_times_of_any_zone(address: Address, database: str, kind: str, given: str) -> None:
    # Names that are ours, but for other things.
    run(
        address,
        f"CREATE TABLE {database}.calls (`text` {kind}, `ts` Nullable(String), uid UInt32, "
        "`моя область` LowCardinality(Nullable(String))) ENGINE = MergeTree ORDER BY tuple()",
    )
    run(
        address,
        f"INSERT INTO {database}.calls VALUES ('{given}', 'вопрос', 7, 'дом'), ('{given}', NULL, 8, '')",
    )
    with connector(
        address, database, table_name="calls", text_column="ts", timestamp_column="text",
        domain_column="моя область", user_id_column="uid",
    ) as opened:  # fmt: skip
        frame = opened.fetch_logs(days=100_000)
    assert frame[["text", "domain", "user_id"]].values.tolist() == [["вопрос", "дом", "7"]]
    moment = frame["ts"].iloc[0].to_pydatetime()
    assert moment.replace(microsecond=0) == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert moment.microsecond == (250_000 if "64" in kind else 0)
    assert moment.utcoffset() == timedelta(0)


def test_rows_without_a_time_are_left_out(address: Address, database: str) -> None:
    run(
        address,
        f"CREATE TABLE {database}.logs (query_text String, created_at Nullable(DateTime)) "
        "ENGINE = MergeTree ORDER BY tuple()",
    )
    run(address, f"INSERT INTO {database}.logs VALUES ('с временем', now()), ('без времени', NULL)")
    with connector(address, database) as opened:
        for days in (7, 100_000):
            assert list(opened.fetch_logs(days=days)["text"]) == ["с временем"]
        # Columns that nobody named may be missing.
        assert opened.fetch_logs()[["domain", "user_id"]].isna().all(axis=None)


def test_text_that_is_no_utf8_is_still_text(address: Address, database: str) -> None:
    usual_table(address, database)
    run(
        address,
        f"INSERT INTO {database}.logs SELECT 1, unhex('FFFEC3') || 'abcd', NULL, now(), unhex('FF')",
    )
    with connector(address, database) as opened:
        (row,) = opened.fetch_logs().to_dict("records")
    assert row["text"] == "\ufffdabcd"
    assert row["user_id"] == "\ufffd"


async def test_works_inside_a_running_event_loop(filled: ClickHouseConnector, tmp_path: Path) -> None:
    assert filled.connect()
    assert len(filled.fetch_logs(days=0)) == 4
    assert filled.export_to_file(tmp_path / "a.csv", days=0) == 4


# --- export_to_file ---


@pytest.fixture
def hostile(address: Address, database: str) -> Iterator[ClickHouseConnector]:
    usual_table(address, database)
    values = [
        "({}, '{}', {}, toDateTime(today()) + {}, 'u')".format(
            number,
            text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n"),
            "NULL" if number % 2 else "''",
            number,
        )
        for number, text in enumerate(TEXTS)
    ]
    run(address, f"INSERT INTO {database}.logs VALUES {', '.join(values)}")
    with connector(address, database) as opened:
        yield opened


def read_back(path: Path, kind: str) -> list[tuple[Any, ...]]:
    import pandas as pd

    if kind == "jsonl":
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return [
            (row["text"], row["domain"], datetime.fromisoformat(row["ts"]), row["user_id"]) for row in rows
        ]
    if kind == "parquet":
        frame = pd.read_parquet(path)
    else:
        frame = pd.read_csv(io.BytesIO(path.read_bytes()), encoding="utf-8", parse_dates=["ts"])
    frame = frame.astype(object).where(frame.notna(), None)
    return [tuple(row) for row in frame.itertuples(index=False)]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_file_holds_what_is_fetched(hostile: ClickHouseConnector, tmp_path: Path, kind: Any) -> None:
    path = tmp_path / "new" / "folder" / f"logs.{kind}"
    frame = hostile.fetch_logs(days=1)
    assert hostile.export_to_file(path, days=1, format=kind) == len(frame) == 4
    rows = read_back(path, kind)
    assert [row[0] for row in rows] == list(frame["text"]) == TEXTS[3::-1]
    assert [row[2] for row in rows] == list(frame["ts"])
    # csv has no other way to tell the two apart than quotes, which pandas does not look at.
    nothing: list[str | None] = [None, None] if kind == "csv" else [None, ""]
    assert [row[1] for row in rows] == nothing * 2
    assert [row[3] for row in rows] == ["u"] * 4
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_csv_tells_an_empty_value_from_a_missing_one(hostile: ClickHouseConnector, tmp_path: Path) -> None:
    hostile.export_to_file(tmp_path / "a.csv", limit=2)
    lines = (tmp_path / "a.csv").read_text("utf-8").splitlines()
    assert lines[0] == '"text","domain","ts","user_id"'
    assert '",,' in lines[1]
    assert ',"",' in lines[2]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_export_of_nothing_is_a_readable_file(
    address: Address, database: str, tmp_path: Path, kind: Any
) -> None:
    usual_table(address, database)
    with connector(address, database) as opened:
        assert opened.export_to_file(tmp_path / "none", format=kind) == 0
    assert read_back(tmp_path / "none", kind) == []


def test_the_limit_also_holds_for_files(filled: ClickHouseConnector, tmp_path: Path) -> None:
    assert filled.export_to_file(str(tmp_path / "a.jsonl"), days=9, format="jsonl", limit=3) == 3


def test_a_failed_export_leaves_the_older_file(address: Address, database: str, tmp_path: Path) -> None:
    usual_table(address, database)
    run(
        address,
        f"INSERT INTO {database}.logs SELECT number, 'запрос ' || toString(sipHash64(number)), NULL, now(), "
        "toString(sipHash128(number)) FROM numbers(200000)",
    )
    path = tmp_path / "logs.csv"
    path.write_text("older")
    line = BadLine(address)
    try:
        with connector(line.address, database) as opened:
            opened.fetch_logs(limit=1)
            line.cut_response_after, line.times = 300_000, 1
            with pytest.raises(RetryableError):
                opened.export_to_file(path)
            assert line.cuts == 1
            assert path.read_text() == "older"
            assert list(tmp_path.iterdir()) == [path]
            assert opened.export_to_file(path) == 200_000
    finally:
        line.close()


def test_a_large_export_needs_little_memory(address: Address, database: str, tmp_path: Path) -> None:
    usual_table(address, database)
    run(
        address,
        f"INSERT INTO {database}.logs SELECT number, repeat('ф', 250), NULL, now(), 'u' FROM numbers(600000)",
    )
    script = (
        "import resource, sys\n"
        "from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector\n"
        "host, port, database = sys.argv[1:4]\n"
        "c = ClickHouseConnector(ClickHouseConfig(host=host, port=int(port), database=database))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "c.export_to_file(sys.argv[4], limit=70000)\n"
        "before = peak()\n"
        "rows = c.export_to_file(sys.argv[4])\n"
        "print(rows, peak() - before)\n"
        "c.close()\n"
    )
    path = tmp_path / "logs.csv"
    done = subprocess.run(
        [sys.executable, "-c", script, address[0], str(address[1]), database, str(path)],
        capture_output=True, text=True, timeout=PATIENCE, check=True,
    )  # fmt: skip
    rows, grown = map(int, done.stdout.splitlines()[-1].split())
    assert rows == 600_000
    assert path.stat().st_size > 300_000_000
    assert grown < 120  # MB; the file has three times that


@pytest.mark.parametrize("path", ["/proc/none/a.csv", "/proc/version/a.csv"])
def test_a_path_that_cannot_be_written(filled: ClickHouseConnector, path: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot write /proc"):
        filled.export_to_file(path)


def test_an_unknown_format_is_refused(filled: ClickHouseConnector, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="xlsx"):
        filled.export_to_file(tmp_path / "a.xlsx", format="xlsx")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


# --- connecting, and what is wrong ---


def test_connect_says_whether(address: Address, capsys: pytest.CaptureFixture[str]) -> None:
    with connector(address, "anything") as opened:
        assert opened.connect()
    with connector(("127.0.0.1", 9), "anything") as opened:
        assert not opened.connect()
    with connector(address, "anything", password="geheimnis") as opened:
        assert not opened.connect()
        with pytest.raises(ConfigurationError) as refused:
            opened.fetch_logs()
    said = capsys.readouterr().out
    assert "CLICKHOUSE_HOST" in said
    assert "CLICKHOUSE_PASSWORD" in said
    assert "geheimnis" not in said + str(refused.value) + repr(opened.config)


@pytest.mark.parametrize(
    ("changes", "setting"),
    [
        ({"table_name": "nowhere"}, "CLICKHOUSE_TABLE"),
        ({"text_column": "nowhere"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"timestamp_column": "query_text"}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ({"domain_column": "nowhere"}, "CLICKHOUSE_DOMAIN_COLUMN"),
        ({"user_id_column": "nowhere"}, "CLICKHOUSE_USER_ID_COLUMN"),
    ],
)
def test_what_is_missing_is_named(address: Address, database: str, changes: Any, setting: str) -> None:
    usual_table(address, database)
    with connector(address, database, **changes) as opened, pytest.raises(ConfigurationError) as told:
        opened.fetch_logs()
    assert told.value.setting == setting
    assert told.value.fix


def test_columns_that_are_said_not_to_exist_are_not_read(filled: ClickHouseConnector) -> None:
    config = filled.config
    host = {"host": config.host, "port": config.port, "database": config.database}
    with ClickHouseConnector(ClickHouseConfig(**host, domain_column="none", user_id_column="")) as opened:
        assert opened.fetch_logs()[["domain", "user_id"]].isna().all(axis=None)


@pytest.mark.parametrize("values", [{"days": -1}, {"limit": -1}])
def test_negative_numbers_are_refused(filled: ClickHouseConnector, values: dict[str, int]) -> None:
    with pytest.raises(ConfigurationError, match="-1"):
        filled.fetch_logs(**values)
