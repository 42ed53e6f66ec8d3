"""A lock: one process at a time changes the tables of the result database, or erases.

ClickHouse has no lock that outlives a statement, but only one process can create a table of a given name.
The one that creates `schema_lock` has the lock, and inserts a line every ten seconds. If there is no new
line for a minute, another process takes the lock: it renames the table to a name that contains the old
owner, which only one process can do. A process that was paused for so long notices before its next change.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from types import TracebackType
from typing import Self

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import TABLE_EXISTS, TABLE_MISSING, code_of
from connectors.clickhouse.client.sql import literal, quoted
from streams.core.errors import LabelstreamError, UnavailableError

log = structlog.get_logger()

LOCK = "schema_lock"
BEAT_SECONDS, DEAD_SECONDS = 10.0, 60.0
_LOOK_AGAIN = 1.0


class SchemaLock:
    """Held within the context. Waits until no other process holds it."""

    def __init__(
        self,
        client: ClickHouseClient,
        database: str,
        *,
        name: str = LOCK,
        other: str = "another labelstream init",
        beat_seconds: float = BEAT_SECONDS,
        dead_seconds: float = DEAD_SECONDS,
    ) -> None:
        """``name``: of the lock's table; ``other``: who else may hold it. ``dead_seconds``: an owner that was
        silent for longer, by the server's clock, loses the lock.
        """
        self._client = client
        self._database = database
        self._name, self._other = name, other
        self._table = f"{quoted(database)}.{quoted(name)}"
        self._owner = uuid.uuid4().hex
        self._beat_seconds = beat_seconds
        self._dead_seconds = dead_seconds
        self._beating: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        said = False
        while not await self._create():
            owner, silent = await self._holder()
            if owner and silent > self._dead_seconds:
                await self._take_over(owner, silent)
            elif owner:
                if not said:
                    log.info("schema_lock_waits", reason=f"{self._other} is at work")
                said = True
                await asyncio.sleep(_LOOK_AGAIN)
        await self._beat()
        self._beating = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._beating is not None:
            self._beating.cancel()
            await asyncio.wait([self._beating])
        # If this fails, the next process takes the lock after a minute.
        with contextlib.suppress(LabelstreamError):
            if (await self._holder())[0] == self._owner:
                for name in (*await self._taken_over(), self._name):
                    await self._client.command(
                        f"DROP TABLE IF EXISTS {quoted(self._database)}.{quoted(name)}"
                    )

    async def hold(self) -> None:
        """Check the lock; call this before each change.

        Raises:
            UnavailableError: this process was silent for too long, and another one took the lock.
        """
        if (await self._holder())[0] != self._owner:
            raise UnavailableError(
                f"{self._other} changes the tables now", setting="CLICKHOUSE_RESULT_DATABASE"
            )

    async def _create(self) -> bool:
        # The lines of a MergeTree in a Replicated database would be seen on one host only.
        kind = await self._client.rows(
            "SELECT engine FROM system.databases WHERE name = {database:String}", {"database": self._database}
        )
        engine = "ReplicatedMergeTree" if kind and kind[0][0] == "Replicated" else "MergeTree"
        try:
            await self._client.command(
                f"CREATE TABLE {self._table} (`owner` String, `at` DateTime64(3) DEFAULT now64(3)) "
                f"ENGINE = {engine} ORDER BY at COMMENT {literal(self._owner)}"
            )
        except LabelstreamError as error:
            if code_of(error) == TABLE_EXISTS:
                return False
            if (await self._holder())[0] != self._owner:  # the answer may have been lost
                raise
        return True

    async def _holder(self) -> tuple[str, float]:
        """The owner, "" for none, and for how many seconds it has been silent."""
        found = await self._client.rows(
            "SELECT comment, toFloat64(now64(3)) - toFloat64(metadata_modification_time)\n"
            "FROM system.tables WHERE database = {database:String} AND name = {name:String}",
            {"database": self._database, "name": self._name},
        )
        if not found:
            return "", 0.0
        owner, age = str(found[0][0]), float(found[0][1])
        try:
            ((lines, silent),) = await self._client.rows(
                f"SELECT count(), toFloat64(now64(3)) - toFloat64(max(at)) FROM {self._table} "
                "WHERE owner = {owner:String}",
                {"owner": owner},
            )
        except LabelstreamError as error:
            if code_of(error) == TABLE_MISSING:
                return "", 0.0
            raise
        return owner, min(age, float(silent)) if int(lines) else age

    async def _take_over(self, owner: str, silent: float) -> None:
        log.warning("schema_lock_taken_over", silent_seconds=round(silent))
        try:
            await self._client.command(
                f"RENAME TABLE {self._table} TO {quoted(self._database)}.{quoted(f'{self._name}_{owner}')}"
            )
        except LabelstreamError as error:
            if code_of(error) not in (TABLE_EXISTS, TABLE_MISSING):  # somebody else was faster
                raise

    async def _taken_over(self) -> list[str]:
        rows = await self._client.rows(
            "SELECT name FROM system.tables WHERE database = {database:String} "
            "AND startsWith(name, {prefix:String})",
            {"database": self._database, "prefix": f"{self._name}_"},
        )
        return [str(name) for (name,) in rows]

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            with contextlib.suppress(LabelstreamError):
                await self._beat()

    async def _beat(self) -> None:
        await self._client.command(
            f"INSERT INTO {self._table} (owner) SELECT {{owner:String}}", {"owner": self._owner}
        )
