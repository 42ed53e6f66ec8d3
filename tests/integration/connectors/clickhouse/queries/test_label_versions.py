"""Label versions on a real engine: what is listed, and what several at once leave behind."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from connectors.clickhouse.queries.label_versions import (
    list_versions,
    promote_version,
    register_version,
    retire_version,
    version_history,
)
from streams.core.errors import ConfigurationError, RefusedError
from tests.integration.connectors.clickhouse.engine import Database


async def add(database: Database, *rows: tuple[str, str]) -> None:
    """Rows of (row_id, label_version); the label is the version's name, and so is the model."""
    client, settings = database
    values = ", ".join(f"('{row}', '2026-03-01', '{v}', '{v}', '{v}', 0.5)" for row, v in rows)
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled "
        f"(row_id, created_at, label, label_version, model, confidence) VALUES {values}"
    )


async def current(database: Database) -> dict[str, str]:
    client, settings = database
    rows = await client.rows(
        f"SELECT row_id, label, label_version, model FROM {settings.result_database}.logs_labeled_current"
    )
    assert all(row[1] == row[2] == row[3] for row in rows), "a row must come from one version as a whole"
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1] for row in rows}


async def lines(database: Database) -> int:
    client, settings = database
    return int((await client.rows(f"SELECT count() FROM {settings.result_database}.label_versions"))[0][0])


async def test_nothing_is_listed_before_a_version_is_registered(database: Database) -> None:
    assert await list_versions(*database) == []


async def test_lists_what_each_version_is_and_how_many_rows_have_it(database: Database) -> None:
    before = datetime.now(UTC)
    await register_version(*database, version="v1", model="m1", prompt="p1", taxonomy="t1")
    await register_version(*database, version="try", model="m2", prompt="p2", taxonomy="t2", status="trial")
    await register_version(*database, version="v2", model="m3")
    await retire_version(*database, "v1")
    await promote_version(*database, "v1")
    await add(database, ("1", "v1"), ("2", "v1"), ("1", "try"))
    await add(database, ("1", "v1"))  # stored twice
    assert {one.rows for one in await list_versions(*database)} == {None}
    found = await list_versions(*database, counted=True)
    assert [(one.version, one.status, one.current, one.rows) for one in found] == [
        ("v1", "promoted", True, 2),
        ("v2", "promoted", False, 0),
        ("try", "trial", False, 1),
    ]
    assert (found[0].model, found[0].prompt, found[0].taxonomy, found[0].mode) == ("m1", "p1", "t1", "json")
    assert found[2].promoted_at is None
    assert found[0].promoted_at is not None
    assert found[1].promoted_at is not None
    assert abs((found[0].created_at - before).total_seconds()) < 60
    assert found[0].created_at < found[1].promoted_at < found[0].promoted_at <= found[0].changed_at


async def test_what_is_listed_as_current_is_what_the_view_shows(database: Database) -> None:
    for version in ("a", "b", "c"):
        await register_version(*database, version=version, model="m")
        await add(database, ("1", version))
    for change, version in (
        (promote_version, "a"), (promote_version, "b"), (retire_version, "b"), (promote_version, "c"),
        (retire_version, "c"), (retire_version, "a"),
    ):  # fmt: skip
        await change(*database, version)
        shown = [one.version for one in await list_versions(*database) if one.current]
        assert list((await current(database)).values()) == shown
    assert shown == []


async def test_the_history_keeps_every_change(database: Database) -> None:
    await register_version(*database, version="v1", model="m", status="trial")
    await promote_version(*database, "v1")
    await retire_version(*database, "v1")
    history = await version_history(*database, "v1")
    assert [one.status for one in history] == ["trial", "promoted", "retired"]
    assert [one.model for one in history] == ["m"] * 3
    assert history[1].promoted_at == history[2].promoted_at
    assert len({one.created_at for one in history}) == 1
    with pytest.raises(RefusedError, match="v9"):
        await version_history(*database, "v9")


async def test_many_workers_that_start_at_once_are_one_version(database: Database) -> None:
    await register_version(*database, version="old", model="old")
    await add(database, ("1", "old"), ("1", "new"), ("2", "old"))
    await asyncio.gather(*(register_version(*database, version="new", model="new") for _ in range(12)))
    assert [one.version for one in await list_versions(*database)] == ["new", "old"]
    assert await current(database) == {"1": "new", "2": "old"}
    known = await lines(database)
    await asyncio.gather(*(register_version(*database, version="new", model="new") for _ in range(12)))
    assert await lines(database) == known


@pytest.mark.parametrize("change", [promote_version, retire_version])
async def test_workers_that_start_during_a_change_do_not_undo_it(database: Database, change: object) -> None:
    """Workers of a known version register all the time: what a person decides stands."""
    for version in ("v1", "v2"):
        await register_version(*database, version=version, model="m")
        await add(database, ("1", version))
    victim = "v1" if change is promote_version else "v2"

    async def start() -> None:
        for _ in range(5):
            await asyncio.gather(
                *(register_version(*database, version=version, model="m") for version in ("v1", "v2"))
            )

    starting = asyncio.gather(start(), start())
    await change(*database, victim)  # type: ignore[operator]
    await starting
    assert await current(database) == {"1": "v1"}


async def test_promotions_at_once_leave_one_current_version(database: Database) -> None:
    names = [f"v{number}" for number in range(6)]
    for version in names:
        await register_version(*database, version=version, model=version)
        await add(database, ("1", version), ("2", version))
    await asyncio.gather(*(promote_version(*database, version) for version in names * 2))
    (shown,) = [one.version for one in await list_versions(*database) if one.current]
    assert await current(database) == {"1": shown, "2": shown}


async def test_versions_promoted_at_the_same_microsecond_are_not_mixed(database: Database) -> None:
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.label_versions (version, model, status, promoted_at) "
        "SELECT 'v' || toString(number), 'm', 'promoted', '2026-01-01 00:00:00.000001' FROM numbers(5)"
    )
    for version in ("v4", "v1", "v3", "v0", "v2"):
        await add(database, ("1", version))
    assert await current(database) == {"1": "v4"}
    assert [one.version for one in await list_versions(*database) if one.current] == ["v4"]


async def test_a_promotion_counts_after_the_clock_was_set_back(database: Database) -> None:
    client, settings = database
    await client.command(
        f"INSERT INTO {settings.result_database}.label_versions "
        "(version, model, status, promoted_at, created_at, changed_at) "
        "SELECT 'future', 'm', 'promoted', now64(6) + toIntervalDay(1), now64(6), now64(6) + toIntervalDay(1)"
    )
    await register_version(*database, version="v1", model="m")
    await add(database, ("1", "future"), ("1", "v1"))
    assert await current(database) == {"1": "future"}
    await promote_version(*database, "v1")
    assert await current(database) == {"1": "v1"}
    await retire_version(*database, "v1")
    await retire_version(*database, "future")
    assert await current(database) == {}


async def test_a_missing_table_is_told(database: Database) -> None:
    client, settings = database
    with pytest.raises(ConfigurationError):
        await list_versions(client, settings.model_copy(update={"clickhouse_result_database": "nowhere"}))
