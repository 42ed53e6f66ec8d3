"""Tables of 0.1.0 get the new sorting key with their rows, while sinks write and the process is killed."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest
from hypothesis import settings

from connectors.clickhouse.schema import copy_rows
from connectors.clickhouse.schema.database import create_tables
from connectors.clickhouse.schema.migration_log import DONE, MigrationLog, migrations_table
from connectors.clickhouse.schema.migrations import ALL, migrate, pending, refuse_other_schema
from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.engine import Database, fresh_database
from tests.integration.connectors.clickhouse.schema.older import (
    SLICE_ROWS,
    Killed,
    Traffic,
    migrate_quickly,
    mortal,
    old_tables,
    steps,
)
from tests.unit.connectors.clickhouse.sink.fakes import A0, L0

STORED = ("logs_labeled", "logs_augmented")


async def old_database(database: Database) -> Traffic:
    """Tables of 0.1.0: corrections not merged yet, of which the older one was stored last; two slices."""
    client, configured = database
    await old_tables(client, configured)
    await client.command(migrations_table(configured.result_database))
    traffic = Traffic(database)
    await traffic.tell(1, "new", 9)
    await traffic.tell(1, "old", 3)
    await traffic.tell_of(range(2, SLICE_ROWS + 3))
    return traffic


async def merged(database: Database) -> None:
    client, configured = database
    for table in STORED:
        await client.command(f"OPTIMIZE TABLE {configured.result_database}.{table} FINAL")


async def described(database: Database, table: str) -> str:
    client, configured = database
    name = configured.result_database
    # Tables that are there keep the descriptions of columns and the size of pieces.
    columns = await client.rows(
        "SELECT name FROM system.columns WHERE database = {d:String} AND table = {t:String} "
        "AND comment != ''",
        {"d": name, "t": table},
    )
    for (column,) in columns:
        await client.command(f"ALTER TABLE {name}.{table} COMMENT COLUMN `{column}` ''")
    made = await client.command(f"SHOW CREATE TABLE {name}.{table}")
    definition, _, settings = str(made).replace(name, "DB").partition("SETTINGS ")
    # In the order in which they were set.
    pieces = ("index_granularity ", "min_compress_block_size ")
    kept = sorted(one for one in settings.split(", ") if not one.startswith(pieces))
    return f"{definition}SETTINGS {kept}"


async def test_tables_of_0_1_0_become_those_of_today(database: Database, address: tuple[str, int]) -> None:
    client, configured = database
    traffic = await old_database(database)
    with pytest.raises(ConfigurationError, match=r"sort logs_labeled.*sort logs_augmented"):
        await refuse_other_schema(client, configured.result_database)
    assert await create_tables(client, configured) == [one.name for one in ALL]
    for _ in range(2):
        await traffic.check(database)
        await merged(database)
    async with fresh_database(address) as fresh:
        for table in (*STORED, "dead_letters", "label_versions", "audit_log", "review_answers"):
            assert await described(database, table) == await described(fresh, table)
    await refuse_other_schema(client, configured.result_database)
    assert await create_tables(client, configured) == []
    names = await client.rows(
        "SELECT name FROM system.tables WHERE database = {d:String}", {"d": configured.result_database}
    )
    assert not [name for (name,) in names if "__" in name or name.startswith("schema_lock")]
    assert await MigrationLog(client, configured.result_database).done() == {2, 3}


async def test_nothing_is_lost_or_doubled_by_kills_while_sinks_write(address: tuple[str, int]) -> None:
    """Drawn anew in each run; what fails is told with its seed. `make soak-examples` draws fifty."""
    for _ in range(settings().max_examples // 20):
        seed = random.SystemRandom().randrange(10**9)
        print(f"seed {seed}")
        await migrate_under_kills(address, seed)


async def migrate_under_kills(address: tuple[str, int], seed: int) -> None:
    """One or two lives that are killed at some statement, and one that comes to its end."""
    chance = random.Random(seed)
    kills = [(chance.randrange(100), chance.random() < 0.5) for _ in range(chance.randint(1, 2))]
    async with fresh_database(address) as database:
        client, configured = database
        name = configured.result_database
        traffic = await old_database(database)
        numbers = itertools.count(100)

        async def happens(sql: str) -> None:
            """What the sinks do just before a statement."""
            if "schema_lock" in sql:
                return  # also beside the others
            match chance.randrange(12):
                case 0:
                    await traffic.tell(next(numbers), "a", 1)
                case 1:
                    await traffic.tell(chance.randint(1, 10), chance.choice("xyz"), chance.randint(0, 12))
                case 2:
                    await traffic.heir()
            if sql.startswith("RENAME TABLE") and "__former" in sql and chance.random() < 0.7:
                table, partition = ("logs_labeled", L0) if "logs_labeled" in sql else ("logs_augmented", A0)
                await traffic.end_insert(partition, f"{table}__next", next(numbers))

        for kill in [*kills, None]:
            life = mortal(configured, kill)
            life.before = happens
            try:
                await migrate_quickly(life, configured)
            except Killed:
                pass
            else:
                assert not await pending(client, name)
            finally:
                await life.close()
        await create_tables(client, configured)
        await traffic.check(database)
        await merged(database)
        await traffic.check(database)
        await client.command(f"DROP DATABASE {name}")


async def test_two_at_once_do_it_once(database: Database) -> None:
    client, configured = database
    traffic = await old_database(database)
    lives = [mortal(configured) for _ in range(3)]
    await asyncio.gather(*(migrate_quickly(life, configured, dead_seconds=60) for life in lives))
    changes = [[sql for sql in life.statements if sql.startswith("EXCHANGE")] for life in lives]
    assert sorted(map(len, changes)) == [0, 0, 2]
    for life in lives:
        await life.close()
    await create_tables(client, configured)
    await traffic.check(database)


async def test_one_that_was_paused_finds_out_that_another_took_over(database: Database) -> None:
    client, configured = database
    traffic = await old_database(database)
    asleep, woken = asyncio.Event(), asyncio.Event()
    paused = mortal(configured)

    async def pause(sql: str) -> None:
        if ("logs_labeled__next" in sql and sql.startswith("INSERT")) or asleep.is_set():
            asleep.set()
            await woken.wait()

    paused.before = pause
    first = asyncio.create_task(migrate_quickly(paused, configured))
    await asleep.wait()
    second = mortal(configured)
    await migrate_quickly(second, configured)
    woken.set()
    with pytest.raises((UnavailableError, ConfigurationError)):
        await first
    for life in (paused, second):
        await life.close()
    assert not [sql for sql in paused.statements if sql.startswith(("EXCHANGE", "RENAME", "DROP"))]
    await create_tables(client, configured)
    await traffic.check(database)


@pytest.mark.parametrize("when", ["CREATE TABLE", "INSERT INTO", "EXCHANGE", "RENAME", "DROP TABLE"])
async def test_what_is_deleted_meanwhile_stays_deleted(database: Database, when: str) -> None:
    client, configured = database
    name = configured.result_database
    traffic = await old_database(database)
    await client.command(f"SYSTEM START MERGES {name}.logs_labeled")  # without them nothing is deleted
    life = mortal(configured)
    deleted = asyncio.Event()

    async def delete(sql: str) -> None:
        if sql.startswith(when) and "logs_labeled" in sql and not deleted.is_set():
            deleted.set()
            table = f"{name}.logs_labeled"
            for statement in (
                f"ALTER TABLE {table} DELETE WHERE row_id = '1'",
                f"DELETE FROM {table} WHERE row_id IN ('2', '7')",
            ):
                await client.command(f"{statement} SETTINGS mutations_sync = 2")
            # What comes afterwards is none of its business. The server tells its time in whole seconds.
            await asyncio.sleep(1.1)
            await traffic.tell(7, "again", 1)

    life.before = delete
    await migrate_quickly(life, configured)
    await life.close()
    assert deleted.is_set()
    await create_tables(client, configured)

    async def left() -> list[tuple[str, str]]:
        return await client.rows(
            f"SELECT row_id, toString(label) FROM {name}.logs_labeled WHERE row_id IN ('1', '2', '7')"
        )

    if await left() != [("7", "again")]:  # a deletion is made again behind our back
        await copy_rows.mutations_ended(client, name, "logs_labeled")
    assert await left() == [("7", "again")]
    others = {one.row_id for one in traffic.told[L0]} - {"1", "2"}
    rows = await client.rows(f"SELECT DISTINCT row_id FROM {name}.logs_labeled")
    assert {row for (row,) in rows} == others


async def test_a_message_that_a_sink_stored_beside_its_copy_is_merged(database: Database) -> None:
    client, configured = database
    traffic = await old_database(database)
    life = mortal(configured)

    async def race(sql: str) -> None:
        if sql.startswith("RENAME TABLE") and "logs_labeled" in sql:
            await traffic.end_insert(L0, "logs_labeled__next", 100)
        if sql.startswith("SELECT count() FROM (\n    SELECT 1 FROM") and "logs_labeled" in sql:
            # A sink looked before the copy, and stores what it found missing. The server does not merge yet.
            await client.command(f"SYSTEM STOP MERGES {configured.result_database}.logs_labeled")
            await traffic.store_blindly(L0)
        if sql.startswith("OPTIMIZE"):
            await client.command(f"SYSTEM START MERGES {configured.result_database}.logs_labeled")

    life.before = race
    await migrate_quickly(life, configured)
    await life.close()
    assert [sql for sql in life.statements if sql.startswith("OPTIMIZE")]
    await create_tables(client, configured)
    await traffic.check(database)


async def test_what_somebody_gave_the_table_goes_with_it(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    traffic = await old_database(database)
    await client.command(
        f"ALTER TABLE {name}.logs_labeled ADD COLUMN note String DEFAULT concat('n', row_id)"
    )
    await client.command(f"ALTER TABLE {name}.logs_labeled ADD COLUMN upper String ALIAS upper(text)")
    await client.command(f"ALTER TABLE {name}.logs_labeled MODIFY SETTING merge_with_ttl_timeout = 77")
    await client.command(
        f"ALTER TABLE {name}.logs_labeled MODIFY TTL toDateTime(created_at) + toIntervalYear(50) "
        "SETTINGS materialize_ttl_after_modify = 0"
    )
    await create_tables(client, configured)
    await traffic.check(database)
    made = await described(database, "logs_labeled")
    assert "merge_with_ttl_timeout = 77" in made
    assert "toIntervalYear(50)" in made
    rows = await client.rows(
        f"SELECT DISTINCT note = concat('n', row_id), upper = upper(text) FROM {name}.logs_labeled"
    )
    assert rows == [(1, 1)]


async def test_a_next_table_without_a_column_of_this_release_is_made_anew(database: Database) -> None:
    client, configured = database
    traffic = await old_database(database)
    life = mortal(configured)

    async def dies(sql: str) -> None:
        if sql.startswith("INSERT") and "logs_labeled__next" in sql:
            raise Killed

    life.before = dies
    with pytest.raises(Killed):
        await migrate_quickly(life, configured)
    await life.close()
    # As an older release has made it: the column came with this one.
    await client.command(
        f"ALTER TABLE {configured.result_database}.logs_labeled__next DROP COLUMN decided_by"
    )
    assert await create_tables(client, configured) == [one.name for one in ALL]
    await traffic.check(database)


async def test_a_database_that_cannot_exchange_renames_one_after_the_other(database: Database) -> None:
    client, configured = database
    traffic = await old_database(database)
    await migrate_as_without_exchange(configured)
    await create_tables(client, configured)
    await traffic.check(database)


async def test_a_kill_between_two_renames_is_made_good(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    traffic = await old_database(database)
    life = mortal(configured)

    async def half(sql: str) -> None:
        if sql.startswith("EXCHANGE"):
            await client.command(f"RENAME TABLE {name}.logs_labeled TO {name}.logs_labeled__former")
            raise Killed

    life.before = half
    with pytest.raises(Killed):
        await migrate_quickly(life, configured)
    await life.close()
    await create_tables(client, configured)
    await traffic.check(database)


async def migrate_as_without_exchange(configured: Settings) -> None:
    life = mortal(configured)

    async def refuse(sql: str) -> None:
        if sql.startswith("EXCHANGE"):
            raise UnavailableError("Code: 48. DB::Exception: it is not supported (NOT_IMPLEMENTED)")

    life.before = refuse
    await migrate_quickly(life, configured)
    assert any(sql.startswith("RENAME") and ", " in sql for sql in life.statements)
    await life.close()


# --- what cannot be done, and other schemas ---


async def test_no_room_is_said_before_anything_is_done(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, configured = database
    await old_database(database)
    monkeypatch.setattr(copy_rows, "_ROOM", 1e15)
    with pytest.raises(ConfigurationError, match=r"logs_labeled has to be copied.*GB are free"):
        await migrate(client, configured.result_database, steps())
    names = await client.rows("SELECT name FROM system.tables WHERE database = {d:String}",
                              {"d": configured.result_database})  # fmt: skip
    assert not {name for (name,) in names if "__" in name or name == "schema_lock"}


async def test_a_mutation_that_fails_is_named(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    await old_database(database)
    await client.command(f"SYSTEM START MERGES {name}.logs_labeled")
    await client.command(
        f"ALTER TABLE {name}.logs_labeled DELETE WHERE throwIf(row_id = '3', 'broken on purpose') "
        "SETTINGS mutations_sync = 0"
    )
    with pytest.raises(ConfigurationError, match="broken on purpose"):
        await migrate(client, name, steps())


async def test_a_newer_schema_is_left_alone_and_named(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    await MigrationLog(client, name).write(999, "of tomorrow", DONE)
    await client.command(f"CREATE OR REPLACE VIEW {name}.logs_labeled_current AS SELECT 1 AS of_tomorrow")
    assert await create_tables(client, configured) == []
    assert await client.rows(f"SELECT * FROM {name}.logs_labeled_current") == [(1,)]
    with pytest.raises(ConfigurationError, match="schema 999"):
        await refuse_other_schema(client, name)


async def test_a_table_that_is_no_replacing_one_needs_nothing(database: Database) -> None:
    client, configured = database
    name = configured.result_database
    await client.command(f"DROP TABLE {name}.logs_labeled")
    await client.command(
        f"CREATE TABLE {name}.logs_labeled (row_id String) ENGINE = MergeTree ORDER BY row_id"
    )
    assert await pending(client, name) == []
