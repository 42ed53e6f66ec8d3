"""What a file is, found out: format, encoding, delimiter, header, columns."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors.files.mapping import Columns
from connectors.files.reading import read
from connectors.files.records import Broken, FileRecord
from connectors.files.rows import FileRow, Rows
from connectors.files.times import time_in
from connectors.files.understand import Chosen, Understood, understand
from streams.core.errors import RefusedError
from streams.core.settings import Settings

SETTINGS = Settings()
ROWS = [
    ("text", "domain", "ts", "user_id"),
    ("не приходит смс с кодом", "sms", "2026-01-01 10:00:00", "u1"),
    ("хочу вернуть деньги за заказ", "refunds", "2026-01-01 10:00:05", "u2"),
    ("Как сменить тариф", "tariff", "2026-01-02 00:00:00", "u3"),
]
TIME = datetime(2026, 2, 3, tzinfo=UTC)


def looked_at(tmp_path: Path, content: bytes, chosen: Chosen | None = None) -> Understood:
    path = tmp_path / "file"
    path.write_bytes(content)
    return understand(path, SETTINGS, chosen)


def csv_of(rows: list[tuple[str, ...]], delimiter: str = ",") -> str:
    return "".join(delimiter.join(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("cp1251", "cp1251"),
        ("koi8-r", "koi8-r"),
    ],
)
def test_encodings(tmp_path: Path, written: str, found: str) -> None:
    understood = looked_at(tmp_path, csv_of(ROWS).encode(written))
    assert understood.reading.encoding == found
    assert [record.values for record in understood.sample] == ROWS[1:]
    assert understood.reading.columns == ROWS[0]


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r"])
@pytest.mark.parametrize("text", ["ПОЗОВИТЕ ОПЕРАТОРА СРОЧНО", "где мой заказ", "Здравствуйте, помогите"])
def test_old_encodings_are_told_apart(tmp_path: Path, encoding: str, text: str) -> None:
    understood = looked_at(tmp_path, f"text\n{text}\n".encode(encoding))
    assert understood.sample[0].values == (text,)


def test_some_broken_bytes_make_no_other_encoding_of_a_file(tmp_path: Path) -> None:
    content = csv_of(ROWS * 10).encode() + b"\xf0\xff,a,b,c\n"
    assert looked_at(tmp_path, content).reading.encoding == "utf-8"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters(tmp_path: Path, delimiter: str) -> None:
    understood = looked_at(tmp_path, csv_of(ROWS, delimiter).encode())
    assert (understood.reading.delimiter, understood.reading.header) == (delimiter, True)
    assert understood.mapping == {"text": "text", "domain": "domain", "timestamp": "ts", "user": "user_id"}


def test_commas_in_texts_do_not_win_over_the_delimiter(tmp_path: Path) -> None:
    content = (
        "Запрос;Дата\nне работает, помогите, срочно;31.01.2026 10:00\nи ещё, вот, это;01.02.2026 11:00\n"
    )
    understood = looked_at(tmp_path, content.encode())
    assert understood.reading.delimiter == ";"
    assert understood.mapping == {"text": "Запрос", "timestamp": "Дата"}


@pytest.mark.parametrize("first", ["text\n", ""])
def test_texts_alone_a_line_each(tmp_path: Path, first: str) -> None:
    understood = looked_at(tmp_path, f"{first}привет, как дела\nхочу, чтобы работало; да\nнет\n".encode())
    assert understood.reading.header is bool(first)
    assert list(understood.mapping) == ["text"]
    assert [record.values[0] for record in understood.sample] == [
        "привет, как дела",
        "хочу, чтобы работало; да",
        "нет",
    ]


def test_what_clickhouse_exports_has_no_header(tmp_path: Path) -> None:
    of_select = (
        '"не приходит смс","sms","2026-01-01 10:00:00","u1"\n"второй текст",\\N,"2026-01-01 10:00:05",\\N\n'
    )
    understood = looked_at(tmp_path, of_select.encode())
    assert understood.reading.header is False
    assert understood.mapping == {
        "text": "column1",
        "domain": "column2",
        "timestamp": "column3",
        "user": "column4",
    }
    of_table = '1,"смс нет","sms","2026-01-01 10:00:00","u1","s1",0.5\n2,"вот","",\\N,"u2",\\N,\\N\n'
    assert looked_at(tmp_path, of_table.encode()).mapping == {
        "id": "column1",
        "text": "column2",
        "domain": "column3",
        "timestamp": "column4",
        "user": "column5",
        "session": "column6",
    }


def test_the_settings_names_go_before_plain_ones(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text,body,id\nx,где мой заказ,1\n", "utf-8")
    settings = Settings(clickhouse_text_column="body")
    assert understand(path, settings).mapping["text"] == "body"


def test_what_somebody_says_goes_before_what_was_found(tmp_path: Path) -> None:
    content = csv_of(ROWS, ";").encode("cp1251")
    chosen = Chosen(encoding="koi8-r", delimiter=",", header=False)
    reading = looked_at(tmp_path, content, chosen).reading
    assert (reading.encoding, reading.delimiter, reading.header) == ("koi8-r", ",", False)


def test_names_are_never_twice(tmp_path: Path) -> None:
    understood = looked_at(tmp_path, b"text,,text\na b,1,2\n")
    assert understood.reading.columns == ("text", "column2", "text_2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"PK\x03\x04 workbook", "format"),
        (b"\x1f\x8b gzip", "format"),
        (b'["text", "a"]', "format"),
        (bytes(range(256)) * 8, "format"),
        (b"PAR1 and no more", "parquet"),
    ],
)
def test_what_is_no_file_of_rows_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(RefusedError) as raised:
        looked_at(tmp_path, content)
    assert raised.value.reason == reason


def test_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "file"
    lines = [
        json.dumps({"query_text": "где заказ", "created_at": 1_767_261_600}),
        '{"query_text": "нет',
        "[1, 2]",
        "",
        json.dumps({"created_at": "2026-01-01T10:00:00+03:00", "query_text": 12345, "more": {"a": 1}}),
    ]
    path.write_text("\n".join(lines), "utf-8")
    understood = understand(path, SETTINGS)
    assert understood.reading.format == "jsonl"
    assert understood.mapping == {"text": "query_text", "timestamp": "created_at"}
    found = list(read(path, understood.reading))
    assert [type(one) for one in found] == [FileRecord, Broken, Broken, FileRecord]
    assert [(one.number, one.line) for one in found] == [(1, 1), (2, 2), (3, 3), (4, 5)]
    rows = [one for one in rows_of(path, understood) if isinstance(one, FileRow) and one.row]
    assert [one.row.text for one in rows if one.row] == ["где заказ", "12345"]
    assert rows[1].row is not None
    assert rows[1].row.created_at == datetime(2026, 1, 1, 7, tzinfo=UTC)


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    times = [datetime(2026, 1, 1, 10, tzinfo=UTC), None, datetime(2026, 1, 1, 11, tzinfo=UTC)]
    table = pa.table(
        {"text": ["где заказ", "нет времени", None], "created_at": pa.array(times, pa.timestamp("ns", "UTC"))}
    )
    parquet.write_table(table, path)
    understood = understand(path, SETTINGS)
    assert understood.reading.columns == ("text", "created_at")
    first, second, third = rows_of(path, understood)
    assert isinstance(first, FileRow)
    assert first.row is not None
    assert (first.row.row_id, first.row.created_at) == ("upload:digest:1", times[0])
    assert isinstance(second, Broken)
    assert (second.field, second.reason) == ("created_at", "timestamp")
    assert isinstance(third, FileRow)
    assert (third.row, third.skipped) == (None, "null-text")


def rows_of(path: Path, understood: Understood, *, quoting: bool = True) -> list[FileRow | Broken]:
    columns = Columns.of(understood.mapping)
    assert columns is not None
    rows = Rows(path, understood.reading, columns, digest="digest", time=TIME, least_bytes=3, quoting=quoting)
    return list(rows)


def test_what_is_wrong_with_a_record_quotes_it_only_where_it_may(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text,ts\nгде мой заказ,2026-01-01\nгде карта,+7 916 123-45-67\n", "utf-8")
    understood = understand(path, SETTINGS)
    for quoting in (True, False):
        _, broken = rows_of(path, understood, quoting=quoting)
        assert isinstance(broken, Broken)
        assert broken.reason == "timestamp"
        assert ("916" in str(broken.detail)) is quoting


def test_rows_are_cleaned_as_the_poller_does(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('text,id\n"  где\u200b  мой\tзаказ ",7\nда,8\nabc,9\n,10\n', "utf-8")
    understood = understand(path, SETTINGS)
    found = rows_of(path, understood)
    assert [
        (one.row.text if one.row else None, one.skipped, one.id) for one in found if isinstance(one, FileRow)
    ] == [
        ("где мой заказ", None, "7"),
        ("да", None, "8"),
        (None, "too-short", "9"),
        (None, "too-short", "10"),
    ]
    first = found[0]
    assert isinstance(first, FileRow)
    assert first.row is not None
    assert first.row.created_at == TIME


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-01-31 10:00:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2026-01-31T10:00:00.5+03:00", datetime(2026, 1, 31, 7, 0, 0, 500_000, tzinfo=UTC)),
        ("2026-01-31 10:00:00.123456Z", datetime(2026, 1, 31, 10, 0, 0, 123_456, tzinfo=UTC)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("31.01.2026 10:05", datetime(2026, 1, 31, 10, 5, tzinfo=UTC)),
        ("31.01.2026", datetime(2026, 1, 31, tzinfo=UTC)),
        (1_767_261_600, datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("1767261600", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("1767261600123", datetime(2026, 1, 1, 10, 0, 0, 123_000, tzinfo=UTC)),
        ("1767261600.5", datetime(2026, 1, 1, 10, 0, 0, 500_000, tzinfo=UTC)),
        ("31.02.2026", None),
        ("1500-01-01", None),
        ("12", None),
        ("", None),
        (None, None),
        ("вчера", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
    ],
)
def test_times(value: Any, expected: datetime | None) -> None:
    assert time_in(value) == expected
