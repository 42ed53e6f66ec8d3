"""Inserts through the front: formats, compressed frames, types, and that what fails says so."""

from __future__ import annotations

import gzip
import http.client
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from ipaddress import IPv4Address
from typing import Any
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

import lz4.frame
import pyarrow as pa
import pytest
import zstandard
from clickhouse_connect.driver.exceptions import DatabaseError

from connectors.local.stack import PartStatus
from tests.waiting import PATIENCE

Connect = Callable[..., Any]
Compress = Callable[[bytes], bytes]

_COMPRESSORS: dict[str, Compress] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "lz4": lz4.frame.compress,
}


def post(
    front: PartStatus, statement: str, body: Sequence[bytes] | bytes, encoding: str = ""
) -> tuple[int, str]:
    """Insert by hand: status and text of the answer. A list of pieces is sent in chunks."""
    connection = http.client.HTTPConnection(front.host or "", front.port, timeout=PATIENCE)
    headers = {"Content-Encoding": encoding} if encoding else {}
    whole: bytes | Iterator[bytes] = body if isinstance(body, bytes) else iter(body)
    connection.request("POST", f"/?query={quote(statement)}", whole, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_all_blocks_of_a_large_insert_are_stored(
    connect: Connect, table: str, compression: str | bool
) -> None:
    client = connect(compress=compression)
    client.command(f"CREATE TABLE {table} (id UInt64, text String) ENGINE = MergeTree ORDER BY id")
    rows = [[number, f"строка {number}"] for number in range(60000)]
    written = client.insert(table, rows, column_names=["id", "text"])
    assert written.written_rows == 60000
    found = client.query(f"SELECT count(), sum(id), uniqExact(text) FROM {table}").result_rows
    assert found == [(60000, sum(range(60000)), 60000)]


@pytest.mark.parametrize("encoding", sorted(_COMPRESSORS))
def test_every_frame_of_a_body_is_read(front: PartStatus, client: Any, table: str, encoding: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt64) ENGINE = MergeTree ORDER BY id")
    compress = _COMPRESSORS[encoding]
    frames = b"".join(compress(f"{number}\n".encode()) for number in range(500))
    pieces = [frames[start : start + 37] for start in range(0, len(frames), 37)]  # frames cut anywhere
    assert post(front, f"INSERT INTO {table} FORMAT TSV", pieces, encoding) == (200, "")
    assert client.query(f"SELECT count(), sum(id) FROM {table}").result_rows == [(500, 124750)]


@pytest.mark.parametrize("encoding", sorted(_COMPRESSORS))
def test_a_body_that_ends_within_a_frame_stores_nothing(
    front: PartStatus, client: Any, table: str, encoding: str
) -> None:
    client.command(f"CREATE TABLE {table} (id UInt64) ENGINE = MergeTree ORDER BY id")
    compress = _COMPRESSORS[encoding]
    body = compress(b"1\n2\n") + compress(b"3\n" * 1000)[:-4]
    status, text = post(front, f"INSERT INTO {table} FORMAT TSV", body, encoding)
    assert status == 400
    assert "Code: 271" in text
    assert client.command(f"SELECT count() FROM {table}") == 0


def test_damaged_and_unknown_encodings_are_refused(front: PartStatus, client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt64) ENGINE = MergeTree ORDER BY id")
    status, text = post(front, f"INSERT INTO {table} FORMAT TSV", b"not gzip", "gzip")
    assert status == 400
    assert "Code: 271" in text
    assert post(front, f"INSERT INTO {table} FORMAT TSV", b"1\n", "br")[0] == 501


@pytest.mark.parametrize("compression", ["lz4", "zstd", None])
def test_arrow_streams_with_compressed_buffers_are_stored(
    client: Any, table: str, compression: str | None
) -> None:
    client.command(
        f"CREATE TABLE {table} (id UInt64, text String, ts DateTime64(6, 'UTC'), n Nullable(String)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    rows = pa.table(
        {
            "id": pa.array(range(1000), pa.uint64()),
            "text": [f"т{number}" for number in range(1000)],
            "ts": pa.array([moment] * 1000, pa.timestamp("us", tz="UTC")),
            "n": pa.array([None, "x"] * 500, pa.string()),
        }
    )
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_table(rows, max_chunksize=300)
    body = memoryview(sink.getvalue())
    pieces = (bytes(body[start : start + 1000]) for start in range(0, len(body), 1000))
    client.raw_insert(table, column_names=list(rows.column_names), insert_block=pieces, fmt="ArrowStream")
    found = client.query(
        f"SELECT count(), uniqExact(text), any(ts), countIf(n IS NULL) FROM {table}"
    ).result_rows
    assert found == [(1000, 1000, moment.replace(tzinfo=None), 500)]  # what the driver makes of UTC


def test_values_come_back_as_they_were(client: Any, table: str) -> None:
    columns = {
        "i": ("Int64", -(2**63)),
        "u": ("UInt64", 2**64 - 1),
        "f": ("Float64", 0.1),
        "dec": ("Decimal(18, 4)", Decimal("12345.6789")),
        "yes": ("Bool", True),
        "d": ("Date", date(2026, 2, 28)),
        "u1": ("UUID", UUID(int=2**100 + 7)),
        "ip": ("IPv4", IPv4Address("10.1.2.3")),
        "e": ("Enum8('a' = 1, 'б' = 2)", "б"),
        "fs": ("FixedString(4)", b"abcd"),
        "lc": ("LowCardinality(String)", "редко"),
        "lcn": ("LowCardinality(Nullable(String))", None),
        "n": ("Nullable(Int32)", None),
        "ns": ("Nullable(String)", "есть"),
        "a": ("Array(Array(String))", [["я", ""], [], ["😀"]]),
        "an": ("Array(Nullable(Int8))", [1, None, -3]),
        "t": ("Tuple(Int8, String)", (5, "пять")),
        "nt": ("Tuple(label String, confidence Float64)", {"label": "x", "confidence": 0.5}),
        "m": ("Map(String, UInt64)", {"раз": 1, "два": 2}),
        "json": ("Array(Tuple(label String, p Float32))", [{"label": "a", "p": 0.25}]),
        "s": ("String", "emoji 😀 ‮rtl \x00 nul \t tab \\ back ' quote"),
    }
    declared = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    client.command(f"CREATE TABLE {table} ({declared}) ENGINE = MergeTree ORDER BY i")
    client.insert(table, [[value for _, value in columns.values()]], column_names=list(columns))
    (row,) = client.query(f"SELECT * FROM {table}").result_rows
    assert dict(zip(columns, row, strict=True)) == {name: value for name, (_, value) in columns.items()}


def test_times_keep_their_zones(client: Any, table: str) -> None:
    moscow = ZoneInfo("Europe/Moscow")
    client.command(
        f"CREATE TABLE {table} (id UInt8, bare DateTime, zoned DateTime('Europe/Moscow'), "
        "fine DateTime64(3, 'Asia/Kolkata'), maybe Nullable(DateTime('Europe/Moscow')), "
        "many Array(DateTime('Asia/Tokyo')), utc DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY id"
    )
    moment = datetime(2026, 7, 1, 21, 30, 15, tzinfo=UTC)
    fine = moment.replace(microsecond=123000)
    names = ["id", "bare", "zoned", "fine", "maybe", "many", "utc"]
    client.insert(
        table,
        [[1, moment, moment.astimezone(moscow), fine, None, [moment], fine], [2, *[moment] * 4, [], moment]],
        column_names=names,
    )
    result = client.query(f"SELECT * FROM {table} ORDER BY id", tz_mode="aware")
    first, second = result.result_rows
    assert [str(one.name) for one in result.column_types][1:] == [
        "DateTime",
        "DateTime('Europe/Moscow')",
        "DateTime64(3, 'Asia/Kolkata')",
        "Nullable(DateTime('Europe/Moscow'))",
        "Array(DateTime('Asia/Tokyo'))",
        "DateTime64(6, 'UTC')",
    ]
    assert first[2].utcoffset() == moscow.utcoffset(datetime(2026, 7, 1))
    assert (first[2], first[3], first[4]) == (moment, fine, None)
    assert first[6] == fine
    assert second[2:4] == (moment, moment)
    texts = client.query(
        f"SELECT toString(zoned), toString(fine), toString(many[1]) FROM {table} WHERE id = 1"
    )
    assert texts.result_rows == [("2026-07-02 00:30:15", "2026-07-02 03:00:15.123", "2026-07-02 06:30:15")]


def test_strings_that_are_not_utf8_survive(client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt8, bytes String) ENGINE = MergeTree ORDER BY id")
    broken = [b"\xff\xfe\x00", b"ok \xd0", b"", bytes(range(256))]
    client.insert(
        table,
        [[n, b] for n, b in enumerate(broken)],
        column_names=["id", "bytes"],
        column_type_names=["UInt8", "String"],
    )
    rows = client.query(
        f"SELECT bytes FROM {table} ORDER BY id", query_formats={"String": "bytes"}
    ).result_rows
    assert [row[0] for row in rows] == broken


def test_left_out_columns_get_the_table_s_defaults(client: Any, table: str) -> None:
    client.command(
        f"CREATE TABLE {table} (id UInt8, twice UInt8 DEFAULT id * 2, text String DEFAULT 'нет') "
        "ENGINE = MergeTree ORDER BY id"
    )
    client.insert(table, [[1]], column_names=["id"])
    client.raw_insert(table, insert_block='{"id": 2}\n{"id": 3, "text": "да"}\n', fmt="JSONEachRow")
    assert client.query(f"SELECT * FROM {table} ORDER BY id").result_rows == [
        (1, 2, "нет"),
        (2, 4, "нет"),
        (3, 6, "да"),
    ]


def test_settings_may_stand_in_the_statement(front: PartStatus, client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt8, s String) ENGINE = MergeTree ORDER BY id")
    statement = (
        f"INSERT INTO {table} (id, s) SETTINGS format_csv_delimiter = ';', async_insert = 0 FORMAT CSV"
    )
    assert post(front, statement, "1;да\n".encode()) == (200, "")
    assert client.query(f"SELECT * FROM {table}").result_rows == [(1, "да")]


def test_inserts_as_text_and_from_selects(client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt8, s String) ENGINE = MergeTree ORDER BY id")
    client.command(f"INSERT INTO {table} VALUES (1, 'a;b'), (2, 'FORMAT TSV')")
    client.command(f"INSERT INTO {table} SELECT number + 3, 'x' FROM numbers(2)")
    assert client.query(f"SELECT * FROM {table} ORDER BY id").result_rows == [
        (1, "a;b"),
        (2, "FORMAT TSV"),
        (3, "x"),
        (4, "x"),
    ]


def test_an_empty_body_stores_nothing_and_succeeds(front: PartStatus, client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt8) ENGINE = MergeTree ORDER BY id")
    assert post(front, f"INSERT INTO {table} FORMAT TSV", b"") == (200, "")
    assert client.command(f"SELECT count() FROM {table}") == 0


@pytest.mark.parametrize(
    ("columns", "body", "status", "code"),
    [
        ("id UInt8", b"1\nx\n", 400, 27),
        ("id UInt8, CONSTRAINT small CHECK id < 5", b"1\n7\n", 500, 469),
        ("other UInt8", b"1\n", 404, 16),
    ],
)
def test_an_insert_that_fails_says_so_and_stores_nothing(
    front: PartStatus, client: Any, table: str, columns: str, body: bytes, status: int, code: int
) -> None:
    client.command(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()")
    answer, text = post(front, f"INSERT INTO {table} (id) FORMAT TSV", body)
    assert (answer, text.split(".")[0]) == (status, f"Code: {code}")
    assert "/fd/" not in text
    assert client.command(f"SELECT count() FROM {table}") == 0


def test_an_error_in_a_view_behind_the_table_is_not_lost(client: Any, table: str) -> None:
    client.command(f"CREATE TABLE {table} (id UInt8) ENGINE = MergeTree ORDER BY id")
    client.command(
        f"CREATE MATERIALIZED VIEW {table}_v ENGINE = MergeTree ORDER BY id "
        f"AS SELECT throwIf(id = 7) AS id FROM {table}"
    )
    with pytest.raises(DatabaseError, match="395"):
        client.insert(table, [[7]], column_names=["id"])


def test_inserts_of_several_clients_at_once_all_arrive(connect: Connect, table: str) -> None:
    clients = [connect() for _ in range(4)]
    clients[0].command(f"CREATE TABLE {table} (id UInt32) ENGINE = MergeTree ORDER BY id")

    def insert(number: int) -> None:
        rows = [[number * 1000 + one] for one in range(1000)]
        clients[number % 4].insert(table, rows, column_names=["id"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(insert, range(20)))
    assert clients[0].query(f"SELECT count(), uniqExact(id) FROM {table}").result_rows == [(20000, 20000)]


def test_an_insert_may_select_from_its_data(connect: Connect, table: str, front: PartStatus) -> None:
    """`input`: the structure is the statement's, types are converted, and conditions hold."""
    connect().command(
        f"CREATE TABLE {table} (id UInt64, at DateTime64(3, 'UTC')) ENGINE = MergeTree ORDER BY id"
    )
    rows = pa.table(
        {"id": pa.array([1, 2, 3], pa.int64()), "at": pa.array([0, 1, 2], pa.timestamp("ms", "UTC"))}
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    data = sink.getvalue().to_pybytes()
    head = f"INSERT INTO {table} (id, at) SELECT id, at FROM input('id Int64, at DateTime64(3, \\'UTC\\')') "
    status, text = post(front, head + "WHERE id > 1 SETTINGS max_threads = 1 FORMAT ArrowStream", [data])
    assert (status, text) == (200, "")
    assert connect().query(f"SELECT id, toUnixTimestamp64Milli(at) FROM {table} ORDER BY id").result_rows == [
        (2, 1),
        (3, 2),
    ]
    # The statement in the body, before the data.
    throwing = (
        head + "WHERE throwIf(now64(3) > fromUnixTimestamp64Milli(0), 'too late') = 0 FORMAT ArrowStream\n"
    )
    status, text = post(front, "", [throwing.encode(), data])
    assert status == 500
    assert "Code: 395" in text
    assert "too late" in text
    assert connect().query(f"SELECT count() FROM {table}").result_rows == [(2,)]
