"""The names in SQL over the source table."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from connectors.clickhouse.source.inspection import FoundColumn, FoundTable, shape_of
from connectors.clickhouse.source.shape import FIELDS, ROW, Shape, prefix_beside
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

OPTIONS: list[dict[str, Any]] = [
    {},
    {"timeless": True},
    {"longer_than": 3, "order": "DESC", "limit": 5, "utf8": True},
]


def found(
    engine: str = "MergeTree", key: str = "created_at", engine_full: str = "", **columns: str
) -> FoundTable:
    there = {"created_at": "DateTime", "query_text": "String", "id": "UInt64", **columns}
    made = {name: FoundColumn(type_, "", "") for name, type_ in there.items()}
    return FoundTable("esk.logs", engine, key, made, engine_full=engine_full)


def shape(there: FoundTable, **settings: str) -> Shape:
    return shape_of(Settings.model_validate(settings), there)


@pytest.mark.parametrize(
    ("columns", "prefix"),
    [
        ([], "labelstream"),
        (["at", "label"], "labelstream"),
        (["labelstream_time"], "labelstream2"),
        (["labelstream", "labelstream2"], "labelstream3"),
        (["labelstream2_time", "labelstream3", "labelstream"], "labelstream4"),
    ],
)
def test_no_column_begins_as_our_names_do(columns: list[str], prefix: str) -> None:
    assert prefix_beside(columns) == prefix


def test_beside_the_columns_stand_no_other_names() -> None:
    """Whatever the columns are called: an alias next to them begins with the prefix."""
    made = shape(found(labelstream_time="String", at="String", id_="String", size="UInt8"))
    for final in ("", "key", "setting"):
        for options in OPTIONS:
            read = replace(made, final=final, key="id").select([*ROW, "size"], 1, 2, **options)
            aliases = re.findall(r" AS (\w+)", read.sql)
            assert aliases == [f"labelstream2_{name}" for name in [*ROW, "size"]]
            names = read.subquery[: read.subquery.index("FROM (")]
            assert re.findall(r" AS (\w+)", names) == [FIELDS[name] for name in [*ROW, "size"]]


@pytest.mark.parametrize(
    ("key", "in_order"),
    [
        ("created_at", True),
        ("created_at, id", True),
        ("toStartOfHour(created_at), id", True),
        ("id, created_at", False),
        ("tuple(id, created_at), created_at", True),
        ("created_at_day, id", False),
        ("", False),
    ],
)
def test_it_is_known_whether_the_table_is_sorted_by_time(key: str, in_order: bool) -> None:
    assert shape(found(key=key)).sorted == in_order


@pytest.mark.parametrize(
    ("engine", "final"),
    [
        ("MergeTree", ""),
        ("ReplicatedMergeTree", ""),
        ("Memory", ""),
        ("ReplacingMergeTree", "key"),
        ("ReplicatedReplacingMergeTree", "key"),
        ("SharedVersionedCollapsingMergeTree", "key"),
        ("AggregatingMergeTree", "key"),
        ("View", "setting"),
        ("MaterializedView", "setting"),
        ("Distributed", "setting"),
    ],
)
def test_of_several_versions_the_newest_is_asked_for(engine: str, final: str) -> None:
    made = shape(found(engine))
    assert made.final == final
    read = made.select(ROW)
    assert ("final = 1" in read.sql, " FINAL" in read.sql) == (final == "setting", final == "key")


@pytest.mark.parametrize(
    ("key", "in_set"),
    [
        ("id", "(`id`)"),
        ("id, query_text", "(`id`, `query_text`)"),
        ("now", "(`now`)"),
        ("`a,b`, not", "(`a,b`, `not`)"),
        ("toDate(created_at), id", ""),
        ("id DESC", ""),
        ("`a\\`b`", ""),
        ("null", ""),
        ("", ""),
    ],
)
def test_rows_are_looked_for_by_a_key_of_columns_only(key: str, in_set: str) -> None:
    """ClickHouse shows columns `null` and `not` without quotes, which are something else in SQL."""
    there = found("ReplacingMergeTree", key=key, **{"now": "String", "not": "String", "a,b": "String"})
    sql = shape(there).select(ROW, 5).sql
    assert (f"{in_set} IN (SELECT" in sql) if in_set else (" IN (" not in sql)


def test_a_key_that_may_be_null_is_not_looked_for_in_a_set() -> None:
    plain = shape(found("ReplacingMergeTree", key="id")).select(ROW, 5)
    assert "(`id`) IN (SELECT `id`" in plain.sql
    for kind in ("Nullable(UInt64)", "Float64"):
        read = shape(found("ReplacingMergeTree", key="id", id=kind)).select(ROW, 5)
        assert " IN (" not in read.sql
        assert " FINAL" in read.sql


@pytest.mark.parametrize("engine", ["Kafka", "RabbitMQ", "S3Queue", "Null", "GenerateRandom"])
def test_engines_that_do_not_give_each_row_once_are_refused(engine: str) -> None:
    with pytest.raises(ConfigurationError, match=engine) as refused:
        shape(found(engine))
    assert refused.value.setting == "CLICKHOUSE_TABLE"
    assert refused.value.fix


@pytest.mark.parametrize(
    ("columns", "setting"),
    [
        ({"query_text": "Array(String)"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"query_text": "Map(String, String)"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"query_text": "JSON"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"query_text": "Enum8('a' = 1)"}, "CLICKHOUSE_TEXT_COLUMN"),
        ({"created_at": "UInt32"}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ({"created_at": "Int64"}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ({"created_at": "String"}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ({"created_at": "AggregateFunction(max, DateTime)"}, "CLICKHOUSE_TIMESTAMP_COLUMN"),
        ({"id": "AggregateFunction(any, UInt64)"}, "CLICKHOUSE_ID_COLUMN"),
        ({"user_id": "Map(String, String)"}, "CLICKHOUSE_USER_ID_COLUMN"),
        ({"session_id": "JSON"}, "CLICKHOUSE_SESSION_ID_COLUMN"),
    ],
)
def test_columns_that_cannot_serve_are_named(columns: dict[str, str], setting: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        shape(found(**columns))
    assert refused.value.setting == setting
    assert next(iter(columns)) in str(refused.value)
    assert refused.value.fix


def test_a_column_that_is_not_kept_is_refused() -> None:
    there = found()
    there.columns["query_text"] = FoundColumn("String", "EPHEMERAL", "")
    with pytest.raises(ConfigurationError, match="EPHEMERAL"):
        shape(there)


@pytest.mark.parametrize("name", ["a`b", 'a"b', "a'b", "a\\b", "a;b", "a\nb", ""])
def test_names_with_quotes_are_refused_by_the_settings(name: str) -> None:
    for setting in ("clickhouse_text_column", "clickhouse_timestamp_column", "clickhouse_table"):
        with pytest.raises(ValueError, match=setting):
            Settings.model_validate({setting: name})
