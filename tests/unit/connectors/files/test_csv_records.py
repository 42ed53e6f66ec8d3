"""The CSV reader: what Python's csv module reads it reads alike, and one broken record costs no other."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.files.csv_records import raw_records, read
from connectors.files.lines import Line, lines
from connectors.files.records import Broken, FileRecord, Reading
from connectors.files.texts import text

# Quotes, delimiters, line ends and letters, so that they meet often.
CELLS = st.text(st.sampled_from("\",;\t|\r\n абв'\\x1\x00"), max_size=12)
DELIMITERS = st.sampled_from([",", ";", "\t", "|"])
COLUMNS = ("a", "b", "c")


def file_of(tmp_path: Path, content: str, encoding: str = "utf-8") -> Path:
    path = tmp_path / "file.csv"
    path.write_bytes(content.encode(encoding))
    return path


def records_of(path: Path, *, delimiter: str = ",", header: bool = False) -> list[FileRecord | Broken]:
    reading = Reading(format="csv", delimiter=delimiter, header=header, columns=COLUMNS)
    return list(read(path, reading))


def lines_in(text: str) -> list[Line]:
    return [Line(number, one) for number, one in enumerate(io.StringIO(text, newline=""), 1)]


@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=8),
    DELIMITERS,
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
)
def test_what_pythons_csv_module_writes_is_read_alike(
    rows: list[list[str]], delimiter: str, end: str, quoting: Any
) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows(rows)
    text = out.getvalue()
    expected = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if row]
    # Without quotes the writer leaves a lone CR as it is, and the reader parts the record there.
    width = 3 if quoting == csv.QUOTE_ALL else None
    found = list(raw_records(iter(lines_in(text)), delimiter, width))
    assert [fields for _, fields in found] == expected


@given(st.text(st.sampled_from('",\r\n аx'), max_size=80), st.sampled_from([None, 1, 2, 3]))
def test_every_line_of_any_text_comes_up_once(text: str, width: int | None) -> None:
    given_lines = lines_in(text)
    taken = [line for some, _ in raw_records(iter(given_lines), ",", width) for line in some]
    assert taken == sorted(set(taken), key=lambda line: line.number)
    # Blank lines are left out, and those that a record of nothing but its end took.
    assert [line for line in given_lines if line.text.strip("\r\n")] == [
        line for line in taken if line.text.strip("\r\n")
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300))
def test_lines_of_a_file_are_those_of_python(tmp_path: Path, text: str) -> None:
    path = file_of(tmp_path, text)
    with path.open(encoding="utf-8", newline="") as file:
        expected = [line.lstrip("\ufeff") for line in file]  # the marks of files that were joined
    assert [line.text for line in lines(path, "utf-8")] == expected


def test_a_quote_that_is_never_closed_costs_its_own_line_only(tmp_path: Path) -> None:
    good = [f"{n},text {n},x" for n in range(50)]
    content = "\n".join(['a,"open,x', *good, 'b,"also open', "c,d,e"])
    found = records_of(file_of(tmp_path, content))
    assert [one for one in found if isinstance(one, Broken)] == [
        Broken(1, 1, 3, None, "quote", text("open quote")),
        Broken(52, 52, 3, None, "quote", text("open quote")),
    ]
    assert [one.values for one in found if isinstance(one, FileRecord)] == [
        *(tuple(one.split(",")) for one in good),
        ("c", "d", "e"),
    ]


def test_a_record_over_several_lines_has_the_line_it_begins_in(tmp_path: Path) -> None:
    found = records_of(file_of(tmp_path, 'a,b,c\r\n1,"x\r\n""y""\r\n",2\r\n\r\n3,4,5\r\n'), header=True)
    assert found == [FileRecord(1, 2, ("1", 'x\r\n"y"\r\n', "2")), FileRecord(2, 6, ("3", "4", "5"))]


@pytest.mark.parametrize(
    ("line", "column", "field", "reason"),
    [
        ("1,2", 4, "c", "columns"),
        ('1,"2,2",3,4,5', 11, None, "columns"),
        ('1,"a" b,3', 3, None, "quote"),
    ],
)
def test_a_broken_record_says_where_and_why(
    tmp_path: Path, line: str, column: int, field: str | None, reason: str
) -> None:
    found = records_of(file_of(tmp_path, f"1,2,3\n{line}\n4,5,6\n"))
    broken = found[1]
    assert isinstance(broken, Broken)
    assert (broken.number, broken.line, broken.column, broken.field, broken.reason) == (
        2,
        2,
        column,
        field,
        reason,
    )
    assert [one.values for one in found if isinstance(one, FileRecord)] == [("1", "2", "3"), ("4", "5", "6")]


def test_bytes_that_are_no_text_break_their_record_only(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes("1,да,3\n".encode() + b"4,\xff\xfe,6\n" + "7,нет,9\n".encode())
    found = records_of(path)
    assert found[1] == Broken(2, 2, 3, None, "encoding", text("bytes", encoding="utf-8"))
    assert [one.number for one in found if isinstance(one, FileRecord)] == [1, 3]


def test_a_line_without_end_does_not_fill_the_memory(tmp_path: Path) -> None:
    found = records_of(file_of(tmp_path, "1,2,3\n" + "x" * 2_500_000 + "\n4,5,6\n"))
    assert [type(one) for one in found] == [FileRecord, Broken, FileRecord]
    assert found[1].line == 2
    assert found[2].line == 3


def test_nulls_as_clickhouse_writes_them(tmp_path: Path) -> None:
    assert records_of(file_of(tmp_path, '"a",\\N,"\\N"\n')) == [FileRecord(1, 1, ("a", None, None))]
