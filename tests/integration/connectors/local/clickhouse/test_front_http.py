"""The front without a client library, as curl and scripts use it."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

import pytest

from connectors.local.stack import PartStatus
from tests.waiting import PATIENCE


def call(
    front: PartStatus,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    path: str = "/",
    **params: str,
) -> tuple[int, bytes, Any]:
    """Status, body and headers of the answer to a GET, or a POST when there is a body."""
    url = f"http://{front.address}{path}?{urllib.parse.urlencode(params)}"
    request = urllib.request.Request(url, data=body, headers=headers or {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_it_answers_pings_and_bare_requests(front: PartStatus) -> None:
    assert call(front, path="/ping")[:2] == (200, b"Ok.\n")
    assert call(front)[:2] == (200, b"Ok.\n")
    assert call(front, path="/nowhere")[0] == 404


def test_the_query_may_be_a_parameter_the_body_or_both(front: PartStatus) -> None:
    assert call(front, query="SELECT 1, 'я'")[:2] == (200, "1\tя\n".encode())
    assert call(front, b"SELECT 2")[:2] == (200, b"2\n")
    assert call(front, b"3", query="SELECT 1 +")[:2] == (200, b"4\n")


def test_formats_come_from_the_query_a_parameter_or_a_header(front: PartStatus) -> None:
    expected = b'{"n":7}\n'
    assert call(front, b"SELECT 7 AS n FORMAT JSONEachRow")[1] == expected
    assert call(front, b"SELECT 7 AS n", default_format="JSONEachRow")[1] == expected
    assert call(front, b"SELECT 7 AS n", {"X-ClickHouse-Format": "JSONEachRow"})[1] == expected
    status, body, headers = call(front, b"SELECT 7 AS n, 'x' AS s FORMAT JSON")
    assert status == 200
    assert json.loads(body)["data"] == [{"n": 7, "s": "x"}]
    assert headers["Content-Type"].startswith("application/json")
    assert call(front, b"SELECT 'a,b', 1 FORMAT CSV")[1] == b'"a,b",1\n'
    assert call(front, b"SELECT 1 AS a FORMAT TSVWithNames")[1] == b"a\n1\n"


def test_rows_are_inserted_as_json_lines(front: PartStatus, table: str) -> None:
    assert (
        call(front, f"CREATE TABLE {table} (id UInt8, text String) ENGINE = MergeTree ORDER BY id".encode())[
            0
        ]
        == 200
    )
    lines = '{"id": 1, "text": "раз"}\n{"id": 2, "text": "два"}\n'
    status, _, headers = call(front, lines.encode(), query=f"INSERT INTO {table} FORMAT JSONEachRow")
    assert status == 200
    assert json.loads(headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    in_one = f"INSERT INTO {table} FORMAT JSONEachRow\n" + '{"id": 3, "text": "три"}'
    assert call(front, in_one.encode())[0] == 200
    assert call(front, query=f"SELECT text FROM {table} ORDER BY id")[1] == "раз\nдва\nтри\n".encode()


def test_parameters_and_settings_come_in_the_address(front: PartStatus) -> None:
    status, body, _ = call(
        front, query="SELECT {text:String}, getSetting('max_threads')", param_text="a'б", max_threads="3"
    )
    assert (status, body) == (200, "a\\'б\t3\n".encode())
    status, body, headers = call(front, query="SELECT 1", no_such_setting="1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "115")
    assert b"UNKNOWN_SETTING" in body


def test_a_get_changes_nothing(front: PartStatus, table: str) -> None:
    status, _, headers = call(front, query=f"CREATE TABLE {table} (a Int8) ENGINE = Memory")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "164")
    assert call(front, query=f"EXISTS TABLE {table}")[1] == b"0\n"


@pytest.mark.parametrize(
    ("params", "headers", "status"),
    [
        ({"user": "default", "password": ""}, {}, 200),
        ({"user": "default", "password": "wrong"}, {}, 403),
        ({"user": "other"}, {}, 403),
        ({}, {"X-ClickHouse-User": "default", "X-ClickHouse-Key": ""}, 200),
        ({}, {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "wrong"}, 403),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"default:").decode()}, 200),
        ({}, {"Authorization": "Basic " + base64.b64encode(b"default:wrong").decode()}, 403),
        ({}, {"Authorization": "Basic not-base64"}, 403),
    ],
)
def test_user_and_password_come_in_parameters_or_headers(
    front: PartStatus, params: dict[str, str], headers: dict[str, str], status: int
) -> None:
    answer, body, _ = call(front, headers=headers, query="SELECT 1", **params)
    assert answer == status
    assert b"wrong" not in body
    assert (b"Code: 516" in body) == (status == 403)


def test_answers_say_which_query_and_format_they_are_of(front: PartStatus) -> None:
    _, _, headers = call(front, query="SELECT 1", query_id="my-query", default_format="CSV")
    assert headers["X-ClickHouse-Query-Id"] == "my-query"
    assert headers["X-ClickHouse-Format"] == "CSV"
    assert headers["X-ClickHouse-Timezone"]


def test_a_query_that_is_not_utf8_is_refused(front: PartStatus) -> None:
    status, body, _ = call(front, b"SELECT '\xff'")
    assert status == 400
    assert b"Code: 62" in body


def test_a_long_query_is_taken_and_a_long_insert_head_is_not(front: PartStatus) -> None:
    many = ",".join(str(number) for number in range(50000))
    sql = f"SELECT length([{many}])".encode()
    assert call(front, sql, max_query_size="2000000")[1] == b"50000\n"
    assert b"Code: 62" in call(front, sql)[1]
    status, body, _ = call(front, b"INSERT INTO t (a" + b" " * 300000 + b") FORMAT TSV\n1\n")
    assert status == 400
    assert b"Max query size exceeded" in body
