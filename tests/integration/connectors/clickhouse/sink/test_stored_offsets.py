"""What a table holds of a partition, as ranges: asked of a projection, of the rows where there is none."""

from __future__ import annotations

import uuid

import pytest

from connectors.clickhouse.schema.add_projections import missing_projections
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.schema.projections import RUN
from connectors.clickhouse.schema.tables import PROJECTIONS
from connectors.clickhouse.sink.stored_offsets import stored_offsets
from tests.integration.connectors.clickhouse.engine import Database
from tests.waiting import eventually

MINE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
FOREVER = 2**62


async def store(database: Database, topic_id: uuid.UUID, partition: int, offsets: str) -> None:
    """``offsets``: an expression of `number`, and how many, as `3 * number, 10`."""
    client, settings = database
    expression, count = offsets.rsplit(",", 1)
    await client.command(
        f"INSERT INTO {settings.result_database}.logs_labeled (row_id, created_at, _topic_id, _partition, "
        f"_offset) SELECT toString({expression}), toDateTime64(1000 + ({expression}) % 1000, 6), "
        f"'{topic_id}', {partition}, {expression} FROM numbers({count})"
    )


async def drop_projections(database: Database) -> None:
    client, settings = database
    for name in PROJECTIONS["logs_labeled"]:
        await client.command(f"ALTER TABLE {settings.result_database}.logs_labeled DROP PROJECTION {name}")


async def ranges(database: Database, **spans: tuple[int, int]) -> dict[str, list[tuple[int, int]]]:
    client, settings = database
    found = await stored_offsets(
        client,
        settings.result_database,
        "logs_labeled",
        MINE,
        {int(name.removeprefix("p")): span for name, span in spans.items()},
    )
    return {f"p{partition}": list(offsets) for partition, offsets in found.items()}


@pytest.mark.parametrize("with_projections", [True, False])
async def test_exactly_what_is_stored(database: Database, with_projections: bool) -> None:
    if not with_projections:
        await drop_projections(database)
    await store(database, MINE, 0, f"number,{2 * RUN + 100}")
    await store(database, MINE, 0, "number + 50,200")  # once more
    await store(database, MINE, 1, f"number + {RUN - 10},20")  # across two runs
    await store(database, MINE, 2, "number * 2,5")
    await store(database, MINE, 2, "3,1")
    await store(database, MINE, 2, "3,1")  # as many as there are offsets in between, not the same ones
    await store(database, MINE, 2, f"{3 * RUN} + number,3")
    await store(database, OTHER, 0, f"{3 * RUN} + number,10")
    everything = (0, FOREVER)
    assert await ranges(database, p0=everything, p1=everything, p2=everything, p3=everything) == {
        "p0": [(0, 2 * RUN + 100)],
        "p1": [(RUN - 10, RUN + 10)],
        "p2": [(0, 1), (2, 5), (6, 7), (8, 9), (3 * RUN, 3 * RUN + 3)],
        "p3": [],
    }
    assert await ranges(database, p0=(100, RUN + 1), p1=(RUN, RUN + 3), p2=(3, 8)) == {
        "p0": [(100, RUN + 1)],
        "p1": [(RUN, RUN + 3)],
        "p2": [(3, 5), (6, 7)],
    }


async def test_what_is_deleted_or_merged_is_known(database: Database) -> None:
    client, settings = database
    for _ in range(3):
        await store(database, MINE, 0, "number,1000")
    name = f"{settings.result_database}.logs_labeled"
    await client.command(f"OPTIMIZE TABLE {name} FINAL")
    await client.command(f"ALTER TABLE {name} DELETE WHERE _offset = 10 SETTINGS mutations_sync = 2")
    await client.command(f"DELETE FROM {name} WHERE _offset = 20")
    await store(database, MINE, 0, "number + 1000,1")
    assert await ranges(database, p0=(0, FOREVER)) == {"p0": [(0, 10), (11, 20), (21, 1001)]}
    for asked in ("label_version", "row_id, created_at"):
        # A projection answers this: as the rows would, also for those that were stored twice and merged.
        rows = await client.rows(f"SELECT {asked}, count() AS n FROM {name} GROUP BY {asked}")
        assert sum(int(row[-1]) for row in rows) == 999


async def test_a_table_of_an_older_release_gets_them_with_its_rows(database: Database) -> None:
    client, settings = database
    await drop_projections(database)
    await store(database, MINE, 0, "number,1000")
    assert await missing_projections(client, settings.result_database) == ["logs_labeled"]
    await create_tables(client, settings)
    assert await missing_projections(client, settings.result_database) == []

    async def made() -> bool:
        rows = await client.rows(
            "SELECT countIf(length(projections) = {n:UInt8}), count() FROM system.parts\n"
            "WHERE active AND database = {d:String} AND table = 'logs_labeled'",
            {"d": settings.result_database, "n": len(PROJECTIONS["logs_labeled"])},
        )
        return bool(rows[0][0] == rows[0][1] == 1)

    await eventually(made, "the stored rows are in the projections")
    await store(database, MINE, 0, "number + 1000,10")
    assert await ranges(database, p0=(0, FOREVER)) == {"p0": [(0, 1010)]}
