"""What the ordinary client asks of the front: queries, parameters, settings, sessions, errors."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from connectors.local.stack import PartStatus

Connect = Callable[..., Any]


def test_a_query_gives_rows_with_names_and_types(client: Any) -> None:
    result = client.query("SELECT number, toString(number) AS text FROM numbers(3)")
    assert result.result_rows == [(0, "0"), (1, "1"), (2, "2")]
    assert result.column_names == ("number", "text")
    assert [str(one.name) for one in result.column_types] == ["UInt64", "String"]


def test_no_rows_are_an_empty_result(client: Any) -> None:
    assert client.query("SELECT number FROM numbers(3) WHERE number > 5").result_rows == []
    assert client.query_df("SELECT number FROM numbers(3) WHERE number > 5").empty


def test_parameters_are_bound_on_the_server_and_need_no_quoting(client: Any) -> None:
    nasty = "'; DROP TABLE t; -- \\ \t\n кавычка ' \" ` {x}"
    rows = client.query(
        "SELECT {text:String}, {number:Int64}, {many:Array(String)}, {none:Nullable(String)}",
        parameters={"text": nasty, "number": -7, "many": [nasty, "b"], "none": None},
    ).result_rows
    assert rows == [(nasty, -7, [nasty, "b"], None)]


def test_parameters_are_bound_by_the_client_too(client: Any) -> None:
    assert client.query("SELECT %(a)s, %(b)s", parameters={"a": "it's", "b": 3}).result_rows == [("it's", 3)]


def test_settings_hold_for_their_query_only(client: Any) -> None:
    sql = "SELECT getSetting('max_block_size')"
    assert client.query(sql, settings={"max_block_size": 123}).result_rows == [(123,)]
    assert client.query(sql).result_rows != [(123,)]
    assert client.query(f"{sql} SETTINGS max_block_size = 124").result_rows == [(124,)]


def test_a_setting_is_obeyed(client: Any) -> None:
    with pytest.raises(DatabaseError, match="159"):
        client.query(
            "SELECT sleepEachRow(0.1) FROM numbers(30)",
            settings={"max_execution_time": 1, "max_block_size": 1},
        )


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT * FROM no_such_table", 60, "UNKNOWN_TABLE"),
        ("SELECT * FROM no_such_database.t", 81, "UNKNOWN_DATABASE"),
        ("SELECT no_such_column", 47, "UNKNOWN_IDENTIFIER"),
        ("SELECT no_such_function(1)", 46, "UNKNOWN_FUNCTION"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT toInt32('x')", 6, "CANNOT_PARSE_TEXT"),
        ("SELECT throwIf(1)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR"),
    ],
)
def test_errors_have_clickhouse_s_codes_and_names(client: Any, sql: str, code: int, name: str) -> None:
    with pytest.raises(DatabaseError, match=rf"(?s)[Cc]ode:? {code}\b.*{name}"):
        client.command(sql)


def test_an_error_after_the_first_rows_is_seen_by_the_client(client: Any) -> None:
    sql = "SELECT throwIf(number = 3000000) FROM numbers(4000000)"
    with pytest.raises(DatabaseError, match="395"), client.query_row_block_stream(sql) as blocks:
        for _ in blocks:
            pass


def test_an_unknown_setting_is_refused(connect: Connect) -> None:
    client = connect()
    with pytest.raises(DatabaseError, match="115"):
        client.command("SELECT 1 SETTINGS no_such_setting = 1")


def test_databases_are_made_used_and_dropped(connect: Connect, table: str) -> None:
    first = connect()
    first.command(f"CREATE DATABASE d_{table}")
    inside = connect(database=f"d_{table}")
    inside.command(f"CREATE TABLE {table} (a Int8) ENGINE = MergeTree ORDER BY a")
    inside.insert(table, [[1]], column_names=["a"])
    assert first.query(f"SELECT a FROM d_{table}.{table}").result_rows == [(1,)]
    first.command(f"DROP DATABASE d_{table}")
    assert first.command(f"EXISTS DATABASE d_{table}") == 0


def test_a_database_that_is_not_there_is_refused(connect: Connect) -> None:
    with pytest.raises(DatabaseError, match="81"):
        connect(database="nowhere").command("SELECT 1")


def test_a_session_keeps_its_temporary_tables_and_settings(connect: Connect) -> None:
    with_session = connect(session_id="s-one")
    with_session.command("CREATE TEMPORARY TABLE mine (a Int8)")
    with_session.insert("mine", [[1], [2]], column_names=["a"])
    with_session.command("SET max_block_size = 77")
    assert with_session.query("SELECT sum(a) FROM mine").result_rows == [(3,)]
    assert with_session.query("SELECT getSetting('max_block_size')").result_rows == [(77,)]
    for other in (connect(), connect(session_id="s-two")):
        with pytest.raises(DatabaseError, match="60"):
            other.query("SELECT * FROM mine")


def test_a_session_refuses_a_second_query_at_the_same_time(connect: Connect) -> None:
    one, other = connect(session_id="busy"), connect(session_id="busy")
    seen = connect()
    thread = threading.Thread(
        target=one.query, args=("SELECT sleepEachRow(0.1) AS busy_one FROM numbers(15)",)
    )
    thread.start()
    running = (
        "SELECT count() FROM system.processes WHERE query LIKE '%AS busy_one%' AND query NOT LIKE '%LIKE%'"
    )
    while seen.command(running) == 0:
        pass
    with pytest.raises(DatabaseError, match="373"):
        other.command("SELECT 1")
    thread.join()
    assert other.command("SELECT 1") == 1


def test_external_data_is_seen_as_a_table(client: Any) -> None:
    data = ExternalData(
        file_name="ids", data="1\tя\n2\tb\n".encode(), fmt="TSV", structure="id Int32, name String"
    )
    rows = client.query("SELECT name FROM ids WHERE id = 1", external_data=data).result_rows
    assert rows == [("я",)]


def test_several_clients_at_once_get_their_own_answers(connect: Connect) -> None:
    clients = [connect() for _ in range(6)]

    def ask(number: int) -> int:
        sql = f"SELECT sum(number + {number}) FROM numbers(100000)"
        return int(clients[number % 6].query(sql).result_rows[0][0])

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(ask, range(48)))
    assert answers == [4999950000 + 100000 * number for number in range(48)]


def test_a_slow_query_does_not_hold_the_others_up(connect: Connect) -> None:
    slow, quick = connect(), connect()
    thread = threading.Thread(target=slow.query, args=("SELECT sleepEachRow(0.1) FROM numbers(20)",))
    thread.start()
    for _ in range(5):
        assert quick.command("SELECT 1") == 1
    assert thread.is_alive()
    thread.join()


@pytest.mark.parametrize(("user", "password"), [("default", "wrong"), ("nobody", "")])
def test_a_wrong_user_or_password_is_refused(front: PartStatus, user: str, password: str) -> None:
    with pytest.raises(DatabaseError, match="516"):
        clickhouse_connect.get_client(host=front.host, port=front.port, username=user, password=password)


def test_the_server_names_itself(client: Any) -> None:
    assert client.server_version.split(".")[0].isdigit()
    assert client.server_tz is not None
    assert client.ping()


def test_pandas_frames_go_both_ways(client: Any, table: str) -> None:
    import pandas as pd

    client.command(
        f"CREATE TABLE {table} (id UInt32, text String, ts DateTime64(3, 'UTC'), score Nullable(Float64)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    frame = pd.DataFrame(
        {
            "id": [1, 2, 3],
            "text": ["карта", "b", ""],
            "ts": pd.date_range("2026-01-01T00:00:00.123Z", periods=3),
            "score": [0.5, None, 2.0],
        }
    )
    client.insert_df(table, frame)
    back = client.query_df(f"SELECT * FROM {table} ORDER BY id")
    assert list(back["text"]) == ["карта", "b", ""]
    assert back["ts"][0] == pd.Timestamp("2026-01-01T00:00:00.123")  # what the driver makes of UTC
    assert back["score"].isna().tolist() == [False, True, False]
    assert back["id"].sum() == 6


def test_arrow_tables_go_both_ways(client: Any, table: str) -> None:
    import pyarrow as pa

    client.command(f"CREATE TABLE {table} (id UInt32, text String) ENGINE = MergeTree ORDER BY id")
    client.insert_arrow(table, pa.table({"id": pa.array([1, 2], pa.uint32()), "text": ["a", "я"]}))
    back = client.query_arrow(f"SELECT id, text FROM {table} ORDER BY id", use_strings=True)
    assert back.to_pydict() == {"id": [1, 2], "text": ["a", "я"]}


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", "deflate", False])
def test_answers_are_compressed_as_the_client_likes(connect: Connect, compression: str | bool) -> None:
    client = connect(compress=compression)
    rows = client.query("SELECT number, repeat('я', 50) FROM numbers(200000)").result_rows
    assert len(rows) == 200000
    assert rows[-1] == (199999, "я" * 50)
