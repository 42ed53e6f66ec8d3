"""What runs in the front: seen, killed, left by its client, and what a killed front leaves behind."""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import clickhouse_connect
import psutil
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from connectors.local.processes import Child
from connectors.local.stack import LocalStack, PartStatus
from tests.stack import stack_in
from tests.waiting import PATIENCE, until

Connect = Callable[..., Any]


@contextmanager
def open_insert(
    front: PartStatus, statement: str, data: bytes, query_id: str
) -> Iterator[http.client.HTTPConnection]:
    """An insert that has sent ``data`` and may send more."""
    with closing(http.client.HTTPConnection(front.host or "", front.port, timeout=PATIENCE)) as connection:
        connection.putrequest("POST", f"/?query_id={query_id}")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(chunk(statement.encode() + b"\n" + data))
        yield connection


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def end(connection: http.client.HTTPConnection) -> tuple[int, str]:
    """End the insert's body; status and text of the answer."""
    connection.send(chunk(b""))
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def listed(client: Any, query_id: str) -> bool:
    return bool(client.query(f"SELECT 1 FROM system.processes WHERE query_id = '{query_id}'").result_rows)


@pytest.fixture
def numbers(client: Any, table: str) -> str:
    client.command(f"CREATE TABLE {table} (id UInt64) ENGINE = MergeTree ORDER BY id")
    return table


@pytest.mark.parametrize("mode", ["SYNC", "ASYNC", ""])
def test_a_killed_insert_that_waits_for_data_fails_and_stores_nothing(
    front: PartStatus, client: Any, numbers: str, mode: str
) -> None:
    name = f"waiting-{numbers}"
    with open_insert(front, f"INSERT INTO {numbers} FORMAT TSV", b"1\n", name) as connection:
        until(lambda: listed(client, name))
        rows = client.query(f"KILL QUERY WHERE startsWith(query_id, 'waiting-{numbers}') TEST").result_rows
        assert [(row[1], row[2], row[3]) for row in rows] == [
            (name, "default", f"INSERT INTO {numbers} FORMAT TSV")
        ]
        assert listed(client, name)  # TEST only looks
        rows = client.query(f"KILL QUERY WHERE query_id = '{name}' {mode}").result_rows
        assert [(row[0], row[1]) for row in rows] == [("finished" if mode == "SYNC" else "waiting", name)]
        until(lambda: not listed(client, name))
        connection.send(chunk(b"2\n"))
        status, text = end(connection)
    assert status == 500
    assert "Code: 394" in text
    assert client.command(f"SELECT count() FROM {numbers}") == 0


def test_an_insert_that_is_not_meant_goes_on(front: PartStatus, client: Any, numbers: str) -> None:
    name = f"spared-{numbers}"
    with open_insert(front, f"INSERT INTO {numbers} FORMAT TSV", b"1\n", name) as connection:
        until(lambda: listed(client, name))
        for mode in ("TEST", "SYNC"):
            assert client.query(f"KILL QUERY WHERE query_id = 'another' {mode}").result_rows == [[""]]  # none
        connection.send(chunk(b"2\n"))
        assert end(connection) == (200, "")
    assert client.command(f"SELECT sum(id) FROM {numbers}") == 3
    assert not listed(client, name)


def test_a_killed_insert_that_is_being_stored_ends(connect: Connect, client: Any, numbers: str) -> None:
    client.command(
        f"CREATE MATERIALIZED VIEW {numbers}_v ENGINE = MergeTree ORDER BY id "
        f"AS SELECT id + sleepEachRow(1) AS id FROM {numbers}"
    )
    other, failures = connect(), []

    def insert() -> None:
        try:
            other.insert(
                numbers,
                [[number] for number in range(20)],
                column_names=["id"],
                settings={
                    "query_id": f"storing-{numbers}",
                    "max_block_size": 1,
                    "function_sleep_max_microseconds_per_block": 60000000,
                },
            )
        except DatabaseError as error:
            failures.append(str(error))

    thread = threading.Thread(target=insert)
    thread.start()
    until(lambda: listed(client, f"storing-{numbers}"))
    client.command(f"KILL QUERY WHERE query_id = 'storing-{numbers}' SYNC")
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert "394" in failures[0]


def test_an_insert_obeys_its_time_limit(client: Any, numbers: str) -> None:
    client.command(
        f"CREATE MATERIALIZED VIEW {numbers}_v ENGINE = MergeTree ORDER BY id "
        f"AS SELECT id + sleepEachRow(0.1) AS id FROM {numbers}"
    )
    settings = {"max_execution_time": 1, "max_block_size": 1}
    with pytest.raises(DatabaseError, match="159"):
        client.insert(numbers, [[one] for one in range(25)], column_names=["id"], settings=settings)


def test_a_killed_select_ends_with_an_error(connect: Connect, client: Any, table: str) -> None:
    other, failures = connect(), []

    def ask() -> None:
        try:
            other.query(
                "SELECT sleepEachRow(0.1) FROM numbers(600)",
                settings={"query_id": f"select-{table}", "max_block_size": 1},
            )
        except DatabaseError as error:
            failures.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    until(lambda: listed(client, f"select-{table}"))
    client.command(f"KILL QUERY WHERE query_id = 'select-{table}' ASYNC")
    thread.join(PATIENCE)
    assert "394" in failures[0]


def test_processes_show_the_ids_that_clients_gave(client: Any) -> None:
    rows = client.query(
        "SELECT query_id FROM system.processes", settings={"query_id": "this-one"}
    ).result_rows
    assert ("this-one",) in rows
    joined = client.query(
        "SELECT p.query_id FROM (SELECT 1) AS one, system.processes AS p", settings={"query_id": "that-one"}
    ).result_rows
    assert ("that-one",) in joined


def test_a_query_whose_client_is_gone_ends(front: PartStatus, client: Any, table: str) -> None:
    with socket.create_connection((front.host or "", front.port or 0), timeout=PATIENCE) as connection:
        sql = "SELECT%20sleepEachRow(0.1)%20FROM%20numbers(600)"
        connection.sendall(
            f"GET /?query={sql}&query_id=gone-{table}&max_block_size=1 HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        )
        until(lambda: listed(client, f"gone-{table}"))
    until(lambda: not listed(client, f"gone-{table}"))


def test_an_insert_whose_client_is_gone_stores_nothing(front: PartStatus, client: Any, numbers: str) -> None:
    name = f"gone-{numbers}"
    with open_insert(front, f"INSERT INTO {numbers} FORMAT TSV", b"1\n2\n", name):
        until(lambda: listed(client, name))
    until(lambda: not listed(client, name))
    assert client.command(f"SELECT count() FROM {numbers}") == 0


def test_an_insert_that_stops_sending_is_given_up(front: PartStatus, client: Any, numbers: str) -> None:
    with closing(http.client.HTTPConnection(front.host or "", front.port, timeout=PATIENCE)) as connection:
        connection.putrequest("POST", "/?http_receive_timeout=1")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        connection.send(chunk(f"INSERT INTO {numbers} FORMAT TSV\n1\n".encode()))
        answer = connection.getresponse()
        assert answer.status == 500
        assert b"Code: 209" in answer.read()
    assert client.command(f"SELECT count() FROM {numbers}") == 0


@pytest.fixture
def own_front(tmp_path: Path) -> Iterator[PartStatus]:
    """One whose memory no other test uses."""
    with stack_in(tmp_path, kafka=False, llm=False) as running:
        yield running.clickhouse


def test_large_results_and_inserts_do_not_grow_the_front(own_front: PartStatus) -> None:
    process = psutil.Process(own_front.pid)
    client = clickhouse_connect.get_client(host=own_front.host, port=own_front.port)
    client.command("CREATE TABLE stored (id UInt64) ENGINE = MergeTree ORDER BY id")
    sql = "SELECT number, repeat('x', 100) AS text FROM numbers(%d)"
    with client.raw_stream(sql % 500_000, fmt="Native") as stream:
        while stream.read(1 << 20):
            pass
    before, highest, total = process.memory_info().rss, 0, 0
    with client.raw_stream(sql % 6_000_000, fmt="Native") as stream:
        while piece := stream.read(1 << 20):
            total += len(piece)
            highest = max(highest, process.memory_info().rss)
    assert total > 600_000_000
    assert highest - before < 150_000_000

    def pieces() -> Iterator[bytes]:
        nonlocal highest
        block = b"".join(b"%d\n" % number for number in range(1_000_000, 1_100_000))
        for _ in range(60):
            yield block
            highest = max(highest, process.memory_info().rss)

    client.raw_insert("stored", insert_block=pieces(), fmt="TSV", settings={"max_memory_usage": 200_000_000})
    assert client.command("SELECT count() FROM stored") == 6_000_000
    assert highest - before < 250_000_000


def test_a_killed_front_comes_back_with_its_data(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path)
    try:
        first = stack.up(kafka=False, llm=False).clickhouse
        client = clickhouse_connect.get_client(host=first.host, port=first.port)
        client.command("CREATE DATABASE kept")
        client.command("CREATE TABLE kept.t (id UInt32, s String) ENGINE = MergeTree ORDER BY id")
        client.insert(
            "t", [[number, "я"] for number in range(1000)], column_names=["id", "s"], database="kept"
        )
        client.close()
        assert first.pid is not None
        with open_insert(first, "INSERT INTO kept.t (id) FORMAT TSV", b"5\n", "cut"):
            Child.of(first.pid).signal(signal.SIGKILL)
            until(lambda: stack.status().clickhouse.state == "stopped")
        second = stack.up(kafka=False, llm=False).clickhouse
        assert (second.port, second.pid != first.pid) == (first.port, True)
        client = clickhouse_connect.get_client(host=second.host, port=second.port)
        assert client.query("SELECT count(), sum(id), any(s) FROM kept.t").result_rows == [
            (1000, 499500, "я")
        ]
        client.close()
        assert list((tmp_path / "clickhouse" / "spool").iterdir()) == []
    finally:
        stack.down()


def test_one_statement_at_a_time_runs_with_an_id(front: PartStatus, client: Any, numbers: str) -> None:
    name = f"alone-{numbers}"
    with open_insert(front, f"INSERT INTO {numbers} FORMAT TSV", b"1\n", name) as connection:
        until(lambda: listed(client, name))
        with pytest.raises(DatabaseError, match="Code: 216"):
            client.command(f"INSERT INTO {numbers} SELECT 2", settings={"query_id": name})
        assert end(connection) == (200, "")
    client.command(f"INSERT INTO {numbers} SELECT 2", settings={"query_id": name})
    assert client.command(f"SELECT sum(id) FROM {numbers}") == 3
