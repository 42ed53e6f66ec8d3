"""Right labels from a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.core.errors import ConfigurationError
from streams.quality.gold_file import GoldRow, GoldSet, read_gold

AT = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def test_a_gold_set_is_read_as_csv_and_as_json_lines(tmp_path: Path) -> None:
    table, lines = tmp_path / "gold.csv", tmp_path / "gold.jsonl"
    table.write_text(
        'row_id,created_at,text,label\n1,2026-01-31T12:30:00+03:00,"a,\nb",refund\n2,,x,delivery\n', "utf-8"
    )
    lines.write_text(
        '{"row_id": "1", "created_at": "2026-01-31T09:30:00Z", "label": "refund"}\n\n'
        '{"row_id": 2, "label": "delivery"}\n',
        "utf-8",
    )
    assert read_gold(table) == [GoldRow("1", "refund", AT), GoldRow("2", "delivery", None)]
    assert read_gold(lines) == read_gold(table)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "row_id,domain\n1,x\n", "label"),
        ("b.csv", "row_id,label,created_at\n1,x,yesterday\n", "yesterday"),
        ("c.csv", "row_id,label,created_at\n1,x,2026-01-31\n", "no zone"),
        ("p.csv", "row_id,label,draw_probability\n1,x,1.5\n", "no probability"),
        ("d.jsonl", '{"row_id"\n', "row 1"),
        ("e.csv", "row_id,label\n", "no rows"),
        ("f.jsonl", "3\n", "row 1"),
    ],
)
def test_what_is_no_gold_set_is_refused_with_what_is_wrong(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ConfigurationError, match=told):
        read_gold(tmp_path / name)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_gold(tmp_path / "nobody.csv")


def gold_of(folder: Path, content: str | bytes) -> GoldSet:
    path = folder / "gold.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_gold(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1251", "utf-16"])
def test_a_gold_set_is_read_as_people_save_it(tmp_path: Path, encoding: str) -> None:
    found = gold_of(tmp_path, "row_id;text;label\r\n1;где мой заказ;refund\r\n2;оплата;\r\n".encode(encoding))
    assert found == [GoldRow("1", "refund", None)]
    assert found.unlabeled == 1
    assert bool(found.warnings) is (encoding == "cp1251")


def test_rows_without_a_label_are_counted_and_not_judged(tmp_path: Path) -> None:
    found = gold_of(tmp_path, "row_id,label\n1,refund\n2,\n3, payment \n4\n5,NaN\n")
    assert (found, found.unlabeled) == ([GoldRow("1", "refund", None), GoldRow("3", "payment", None)], 3)
    with pytest.raises(ConfigurationError, match="1 have no label"):
        gold_of(tmp_path, "row_id,label\n1,\n")
    for wrong, told in (("row_id,label\n,refund\n", "no row_id"), ("row_id,label\n1,a,b\n2,a\n", "row 1")):
        with pytest.raises(ConfigurationError, match=told):
            gold_of(tmp_path, wrong)


def test_without_ids_texts_identify_the_rows(tmp_path: Path) -> None:
    found = gold_of(tmp_path, "Текст;Метка\n где  мой заказ;refund\n")
    assert found == [GoldRow("", "refund", None, "где мой заказ")]


def test_the_file_may_say_how_its_rows_were_drawn(tmp_path: Path) -> None:
    found = gold_of(tmp_path, "row_id;label;draw_probability\n1;a;0,02\n2;b;\n3;c;1\n")
    assert [(one.probability, one.number) for one in found] == [(0.02, 1), (None, 2), (1.0, 3)]


def test_a_row_that_no_label_fits_is_one_with_a_label(tmp_path: Path) -> None:
    found = gold_of(tmp_path, "row_id,label\n1,no-label\n2,\n")
    assert (found, found.unlabeled) == ([GoldRow("1", None, None)], 1)
