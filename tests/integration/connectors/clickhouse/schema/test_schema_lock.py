"""One process at a time: others wait, one that ended is taken over, one that was paused finds out."""

from __future__ import annotations

import asyncio

import pytest

from connectors.clickhouse.schema.schema_lock import LOCK, SchemaLock
from streams.core.errors import UnavailableError
from tests.integration.connectors.clickhouse.engine import Database
from tests.integration.connectors.clickhouse.schema.older import Killed, mortal

LONG = 3600.0


async def tables(database: Database) -> set[str]:
    client, settings = database
    rows = await client.rows(
        "SELECT name FROM system.tables WHERE database = {d:String} AND startsWith(name, {lock:String})",
        {"d": settings.result_database, "lock": LOCK},
    )
    return {name for (name,) in rows}


async def test_the_next_one_waits_until_the_first_has_ended(database: Database) -> None:
    client, settings = database
    order: list[str] = []
    waiting = asyncio.Event()

    async def hold(name: str) -> None:
        async with SchemaLock(client, settings.result_database, dead_seconds=LONG) as lock:
            order.append(f"{name} begins")
            waiting.set()
            await asyncio.sleep(0)
            await lock.hold()
            order.append(f"{name} ends")

    first = asyncio.create_task(hold("first"))
    await waiting.wait()
    await asyncio.gather(first, hold("second"), hold("third"))
    assert [one.split()[1] for one in order] == ["begins", "ends"] * 3
    assert await tables(database) == set()


async def test_one_that_was_killed_is_taken_over(database: Database) -> None:
    client, settings = database
    dead = mortal(settings)

    async def die() -> None:
        async with SchemaLock(dead, settings.result_database):
            dead.die_at = (len(dead.statements), False)
            await dead.command("SELECT 1")

    with pytest.raises(Killed):
        await die()
    await dead.close()
    assert await tables(database) == {LOCK}
    waits = SchemaLock(client, settings.result_database, dead_seconds=LONG)
    async with SchemaLock(client, settings.result_database, dead_seconds=0.0) as heir:
        await heir.hold()
        assert len(await tables(database)) == 2  # its own, and that of the dead one
        waiting = asyncio.create_task(waits.__aenter__())
        await asyncio.sleep(0.5)
        assert not waiting.done()
    await waiting
    await waits.hold()
    await waits.__aexit__(None, None, None)
    assert await tables(database) == set()


async def test_one_that_was_paused_may_do_nothing_more(database: Database) -> None:
    client, settings = database
    async with SchemaLock(client, settings.result_database, beat_seconds=LONG) as paused:
        await paused.hold()
        async with SchemaLock(client, settings.result_database, dead_seconds=-1.0) as lock:
            await lock.hold()
            with pytest.raises(UnavailableError, match="another labelstream init"):
                await paused.hold()
    assert await tables(database) == set()
