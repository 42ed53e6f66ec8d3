"""The result tables and the current view, on a real engine."""

from __future__ import annotations

import pytest

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import (
    list_versions,
    promote_version,
    register_version,
    retire_version,
)
from connectors.clickhouse.queries.places import AT_PLACES
from connectors.clickhouse.queries.upload_rows import ranks_of
from connectors.clickhouse.schema import database as ddl
from connectors.clickhouse.schema.columns import columns_of
from connectors.clickhouse.schema.placement import IN_REPLICATED_DATABASE, on_cluster
from streams.core.errors import RefusedError
from streams.core.messages import Augmented, DeadLetter, HumanLabel, Labeled
from streams.core.settings import Settings
from streams.core.times import micros_of
from tests.integration.connectors.clickhouse.engine import Database
from tests.unit.connectors.clickhouse.sink.fakes import START


async def add(database: Database, *rows: tuple[str, str, str, float | None], at: str = "2026-03-01") -> None:
    """Rows of (row_id, label_version, label, confidence)."""
    client, settings = database
    values = ", ".join(
        f"('{row_id}', 't{version}', '{at}', '{label}', '{version}', "
        f"{'NULL' if confidence is None else confidence})"
        for row_id, version, label, confidence in rows
    )
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled "
        f"(row_id, text, created_at, label, label_version, confidence) VALUES {values}"
    )


async def current(database: Database, where: str = "1") -> dict[str, tuple[str, str, float | None]]:
    client, settings = database
    rows = await client.rows(
        f"SELECT row_id, label_version, label, confidence, text "
        f"FROM {settings.result_database}.logs_labeled_current WHERE {where}"
    )
    assert len(rows) == len({row[0] for row in rows})
    assert all(row[4] == f"t{row[1]}" for row in rows), "a row must come from one version as a whole"
    return {row[0]: (row[1], row[2], row[3]) for row in rows}


@pytest.mark.parametrize(
    ("table", "message"),
    [("logs_labeled", HumanLabel), ("logs_augmented", Augmented), ("dead_letters", DeadLetter)],
)
async def test_each_field_has_its_column(database: Database, table: str, message: type) -> None:
    client, settings = database
    rows = await client.rows(
        "SELECT name, type FROM system.columns WHERE database = {d:String} AND table = {t:String} "
        "ORDER BY position",
        {"d": settings.result_database, "t": table},
    )
    assert rows[:-6] == [(column.name, column.type) for column in columns_of(message)]
    added = ["_topic", "_topic_id", "_partition", "_offset", "_writer", "_stored_at"]
    assert [name for name, _ in rows[-6:]] == added


async def test_creating_twice_changes_nothing(database: Database) -> None:
    client, settings = database
    await add(database, ("1", "v1", "a", 0.5))
    before = await client.rows(
        "SELECT name, create_table_query, metadata_modification_time FROM system.tables "
        "WHERE database = {d:String} ORDER BY name",
        {"d": settings.result_database},
    )
    await ddl.create_tables(client, settings)
    after = await client.rows(
        "SELECT name, create_table_query, metadata_modification_time FROM system.tables "
        "WHERE database = {d:String} ORDER BY name",
        {"d": settings.result_database},
    )
    assert before == after
    assert {row[0] for row in before} == {
        "logs_labeled", "logs_augmented", "dead_letters", "label_versions", "audit_log",
        "review_answers", "erasures", "logs_labeled_current", "schema_migrations"
    }  # fmt: skip


async def test_described_statements_make_the_same(database: Database) -> None:
    client, settings = database
    other = settings.model_copy(update={"clickhouse_result_database": f"{settings.result_database}_x"})
    for statement in ddl.describe_ddl(other).split(";\n"):
        if statement.strip():
            await client.command(statement)
    assert await client.rows("SELECT count() FROM system.tables WHERE database = {d:String}",
                             {"d": other.result_database}) == [(9,)]  # fmt: skip
    await ddl.create_tables(client, other)


async def test_tables_of_an_older_release_get_the_new_columns(database: Database) -> None:
    client, settings = database
    name = settings.result_database
    await add(database, ("1", "v1", "a", 0.5), ("2", "human", "a", None))
    for column in ("cached", "decided_by", "proxy_generation"):
        await client.command(f"ALTER TABLE {name}.logs_labeled DROP COLUMN {column}")
    await client.command(f"CREATE OR REPLACE VIEW {name}.logs_labeled_current AS SELECT 1 AS old")
    await ddl.create_tables(client, settings)
    await add(database, ("3", "v1", "a", 0.5), ("4", "human", "a", None))  # by sinks that do not know them
    rows = await client.rows(
        "SELECT row_id, cached, decided_by, proxy_generation "
        f"FROM {name}.logs_labeled_current ORDER BY row_id"
    )
    assert rows == [
        (row, False, decider, None) for row, decider in zip("1234", ("llm", "human") * 2, strict=True)
    ]
    described = await client.rows(f"DESCRIBE {name}.logs_labeled")
    assert [row[0] for row in described][: len(Labeled.model_fields)] == list(Labeled.model_fields)


async def test_a_database_with_an_odd_name(address: tuple[str, int]) -> None:
    settings = Settings(clickhouse_host=address[0], clickhouse_port=address[1],
                        clickhouse_database="сток-1 x")  # fmt: skip
    client = ClickHouseClient.from_settings(settings)
    await ddl.create_tables(client, settings)
    await register_version(client, settings, version="v1", model="m")
    assert await client.rows("SELECT * FROM `сток-1 x`.logs_labeled_current") == []
    await client.close()


async def test_current_label_follows_promotion_and_back(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await register_version(client, settings, version="v2", model="m", status="trial")
    await add(database, ("both", "v1", "a", 0.9), ("both", "v2", "b", None), ("old", "v1", "c", 0.1))
    before = {"both": ("v1", "a", 0.9), "old": ("v1", "c", 0.1)}
    assert await current(database) == before
    await promote_version(client, settings, "v2")
    assert await current(database) == {"both": ("v2", "b", None), "old": ("v1", "c", 0.1)}
    await promote_version(client, settings, "v1")
    assert await current(database) == before


async def test_a_trial_is_not_shown_and_a_retired_version_neither(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await register_version(client, settings, version="v2", model="m", status="trial")
    await add(database, ("only-trial", "v2", "b", 0.5), ("1", "v1", "a", 0.5), ("1", "v2", "b", 0.5))
    assert await current(database) == {"1": ("v1", "a", 0.5)}
    await promote_version(client, settings, "v2")
    await retire_version(client, settings, "v2")
    assert await current(database) == {"1": ("v1", "a", 0.5)}


async def test_a_trial_of_live_rows_is_shown_where_nothing_else_is(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await register_version(client, settings, version="v2", model="m", status="trial")
    await add(database, ("new", "v2", "b", 0.5), ("old", "v1", "a", 0.5), ("old", "v2", "b", 0.5))
    assert await current(database) == {"old": ("v1", "a", 0.5)}
    await register_version(client, settings, version="v2", model="m", status="trial", live=True)
    assert await current(database) == {"new": ("v2", "b", 0.5), "old": ("v1", "a", 0.5)}
    assert (await ranks_of(client, settings))["v2"] == 0
    # A replay that takes the version up does not hide its rows again, a person may.
    await register_version(client, settings, version="v2", model="m", status="trial")
    assert [(one.version, one.status, one.live) for one in await list_versions(client, settings)] == [
        ("v1", "promoted", False),
        ("v2", "trial", True),
    ]
    await retire_version(client, settings, "v2")
    assert await current(database) == {"old": ("v1", "a", 0.5)}


async def test_a_table_of_an_older_release_gets_the_column_of_live_trials(database: Database) -> None:
    client, settings = database
    table = f"{settings.result_database}.label_versions"
    await client.command(f"DROP VIEW {settings.result_database}.logs_labeled_current")
    await client.command(f"ALTER TABLE {table} DROP COLUMN live")
    await client.command(
        f"INSERT INTO {table} (version, model, status, promoted_at) VALUES ('v1', 'm', 'promoted', now64(6))"
    )
    await ddl.create_tables(client, settings)
    (found,) = await list_versions(client, settings)
    assert (found.version, found.current, found.live) == ("v1", True, False)


async def test_rows_of_a_version_that_nobody_registered_are_shown(database: Database) -> None:
    client, settings = database
    await add(database, ("1", "v0", "a", 0.5), ("2", "v0", "a", 0.5), ("2", "v1", "b", 0.5))
    assert len(await current(database)) == 2
    await register_version(client, settings, version="v1", model="m")
    assert await current(database) == {"1": ("v0", "a", 0.5), "2": ("v1", "b", 0.5)}


async def test_a_worker_that_starts_again_undoes_no_promotion(database: Database) -> None:
    client, settings = database
    for version in ("v1", "v2", "v1"):
        await register_version(client, settings, version=version, model="m", prompt="p", taxonomy="t")
    await add(database, ("1", "v1", "a", 0.5), ("1", "v2", "b", 0.5))
    assert await current(database) == {"1": ("v2", "b", 0.5)}
    await promote_version(client, settings, "v1")
    await register_version(client, settings, version="v2", model="m")
    assert await current(database) == {"1": ("v1", "a", 0.5)}
    rows = await client.rows(
        f"SELECT DISTINCT model, prompt, taxonomy, mode FROM {settings.result_database}.label_versions"
    )
    assert rows == [("m", "p", "t", "json")]


async def test_an_unknown_version_cannot_be_promoted(database: Database) -> None:
    client, settings = database
    with pytest.raises(RefusedError, match="v9"):
        await promote_version(client, settings, "v9")


async def test_a_row_stored_twice_is_shown_once(database: Database) -> None:
    await add(database, ("1", "v1", "a", 0.5))
    await add(database, ("1", "v1", "a", 0.5))
    assert await current(database) == {"1": ("v1", "a", 0.5)}


async def test_filters_choose_among_current_labels_only(database: Database) -> None:
    client, settings = database
    await register_version(client, settings, version="v1", model="m")
    await register_version(client, settings, version="v2", model="m")
    await add(database, ("1", "v1", "a", 0.5), ("1", "v2", "b", None))
    assert await current(database, "label = 'a'") == {}
    assert await current(database, "confidence = 0.5") == {}
    assert await current(database, "label = 'b'") == {"1": ("v2", "b", None)}


_77 = str(micros_of(START.replace(hour=1, minute=17)))
AT_77 = AT_PLACES.replace("{ats:Array(Int64)}", f"[{_77}]")
AT_77 = AT_77.replace("{first_at:Int64}", _77).replace("{last_at:Int64}", _77)


@pytest.mark.parametrize(
    "where",
    [
        "created_at >= '2026-03-05' AND created_at < '2026-03-06'",
        "row_id = '77'",
        AT_77.replace("{ids:Array(String)}", "['77']"),
    ],
)
async def test_a_range_or_a_row_reads_only_a_part_of_the_table(database: Database, where: str) -> None:
    client, settings = database
    name = settings.result_database
    await client.command(
        f"INSERT INTO {name}.logs_labeled (row_id, created_at, label_version) SELECT toString(number), "
        f"toDateTime64('{START:%Y-%m-%d}', 6, 'UTC') + toIntervalMinute(number), 'v1' FROM numbers(100000)"
    )
    plan = await client.rows(f"EXPLAIN indexes = 1 SELECT * FROM {name}.logs_labeled_current WHERE {where}")
    granules = [
        line.split("Granules: ")[1].split("/") for (line,) in plan if "/" in line and "Granules: " in line
    ]
    assert max(int(total) for _, total in granules) >= 12
    assert int(granules[-1][0]) <= 3


async def test_the_engine_reads_every_statement_for_a_cluster(database: Database) -> None:
    client, _ = database
    for placement in (on_cluster("main cluster"), IN_REPLICATED_DATABASE):
        for statement in ddl.statements("res", placement):
            assert await client.rows(f"EXPLAIN AST {statement}")
