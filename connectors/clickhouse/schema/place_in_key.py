"""The migration that adds the message's place to the end of a stored table's sorting key; why: `tables.py`.

A sorting key cannot be changed in place. So the rows are copied into a second table, and the two exchange
names (`table_replacement.py`), while sinks of this release or of the one before go on.

The next step follows from which tables exist and how they are sorted (`next_step`); it is looked up before
each step. So the next process continues where one was killed. A table is dropped only after everything
that it holds was copied to the one that stays.

Of a replicated table each server has its own names. Those that are behind are brought on first, so that no
server drops what another one still inserts into.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum, auto

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.errors import TABLE_EXISTS, TABLE_MISSING, code_of
from connectors.clickhouse.client.sql import quoted
from connectors.clickhouse.schema.copy_rows import SLICE_ROWS, slice_statement
from connectors.clickhouse.schema.migration_log import MigrationLog
from connectors.clickhouse.schema.replica_servers import refuse_unknown_replicas, servers
from connectors.clickhouse.schema.schema_lock import SchemaLock
from connectors.clickhouse.schema.table_replacement import Names, ServerTable, TableReplacement
from connectors.clickhouse.schema.tables import INSERT_SECONDS, MESSAGE_PLACE, STORED, columns_in, new_engine
from streams.core.errors import LabelstreamError, RetryableError, UnavailableError

log = structlog.get_logger()

_FAILURES, _PAUSE = 5, 1.0


class Step(Enum):
    """What to do next with a table, its next and its former one."""

    NOTHING = auto()
    CREATE = auto()  # the next table
    EXCHANGE = auto()  # copy the rows into the next table, and exchange the names
    RETIRE = auto()  # the next table is the replaced one: rename it to the former one
    FINISH = auto()  # copy what only the former table holds, and drop it
    RECALL = auto()  # the former table has the new key: rename it to the next one
    ADOPT = auto()  # killed between two renames: the next table gets the name
    RESTORE = auto()  # only the former table is left: it gets the name


def next_step(table: bool | None, following: bool | None, former: bool | None) -> Step:
    """What to do with the three tables. None: it does not exist; else whether it has the new key."""
    if table is None:
        if following is not None:
            return Step.ADOPT
        return Step.NOTHING if former is None else Step.RESTORE
    if former is not None:
        return Step.RECALL if former and not table and following is None else Step.FINISH
    if table:
        return Step.NOTHING if following is None else Step.RETIRE
    if following is None:
        return Step.CREATE
    return Step.EXCHANGE if following else Step.RETIRE


# What is due on some servers first: whatever comes later in this order waits for it.
_IN_ORDER = (
    Step.ADOPT,
    Step.RESTORE,
    Step.RECALL,
    Step.CREATE,
    Step.EXCHANGE,
    Step.RETIRE,
    Step.FINISH,
)


def due(steps: Sequence[Step]) -> tuple[Step, list[int]]:
    """Of the next ``steps`` of all servers: the one that is due, and on which of them."""
    for step in _IN_ORDER:
        if at := [number for number, one in enumerate(steps) if one is step]:
            return step, at
    return Step.NOTHING, []


class PlaceInKey:
    """One table's migration, to schema ``version``."""

    def __init__(
        self,
        version: int,
        table: str,
        *,
        slice_rows: int = SLICE_ROWS,
        settle_seconds: float = INSERT_SECONDS + 1,
    ) -> None:
        """``settle_seconds``: an insert that has begun ends within this time."""
        self.version = version
        self.name = f"sort {table} by the message's place too"
        self._names = Names(table, f"{table}__next", f"{table}__former")
        self._slice_rows = slice_rows
        self._settle_seconds = settle_seconds

    def statements(self, database: str) -> list[str]:
        """What is run for a table of 0.1.0, for people to read. A copy runs for each slice of rows, and again
        for rows stored meanwhile."""
        key = STORED[self._names.table][1]
        full = ", ".join((key, *MESSAGE_PLACE))
        table, following, former = (f"{quoted(database)}.{quoted(name)}" for name in self._names)
        where = "created_at >= {first} AND created_at <= {last}"

        def copied(source: str, target: str) -> str:
            return slice_statement(database, source, target, ["*"], full, where)

        return [
            f"CREATE TABLE {following} AS {table} ENGINE = "
            + new_engine(f"ReplacingMergeTree ORDER BY ({key})", key),
            copied(self._names.table, self._names.following),
            f"EXCHANGE TABLES {table} AND {following}",
            f"RENAME TABLE {following} TO {former}",
            copied(self._names.former, self._names.table),
            f"DROP TABLE {former}",
        ]

    async def needed(self, client: ClickHouseClient, database: str) -> bool:
        """Whether there is anything left to do."""
        return self._step(await self._look(client, database)) is not Step.NOTHING

    async def run(
        self, client: ClickHouseClient, database: str, lock: SchemaLock, history: MigrationLog
    ) -> None:
        """Do what is left to do.

        Raises:
            ConfigurationError: no disk space, no right, or a replica on a host that is not named.
            UnavailableError: a host does not answer, or another process took over. Run it again.
        """
        async with servers(client, database) as every:
            await self._run(every, database, lock, history)

    async def _run(
        self, every: list[ClickHouseClient], database: str, lock: SchemaLock, history: MigrationLog
    ) -> None:
        failures = 0
        while True:
            await lock.hold()
            try:
                tables = [await self._look_at(one, database, alone=len(every) == 1) for one in every]
                step, at = due([self._step(one) for one in tables])
                if step is Step.NOTHING:
                    return
                await refuse_unknown_replicas(every, database, self._names)
                log.info(
                    "migration_step", version=self.version, table=self._names.table, step=step.name.lower()
                )
                work = TableReplacement(
                    [every[number] for number in at],
                    database,
                    self._names,
                    lock,
                    history,
                    self.version,
                    self.name,
                    slice_rows=self._slice_rows,
                    settle_seconds=self._settle_seconds,
                )
                # The rows were copied before the first server exchanged the names.
                copied = any(_ready(one.get(self._names.table)) for one in tables)
                steps = {
                    Step.CREATE: work.create,
                    Step.EXCHANGE: work.exchange_names if copied else work.exchange,
                    Step.RETIRE: work.retire,
                    Step.FINISH: work.finish,
                    Step.RECALL: work.recall,
                    Step.ADOPT: work.adopt,
                    Step.RESTORE: work.restore,
                }
                await steps[step](tables[at[0]])
                failures = 0
            except LabelstreamError as error:
                # The answer was lost, or another process was faster: look again.
                failures += 1
                moved = code_of(error) in (TABLE_EXISTS, TABLE_MISSING)
                if failures > _FAILURES or not (moved or isinstance(error, RetryableError)):
                    raise
                await asyncio.sleep(_PAUSE)

    async def _look_at(self, one: ClickHouseClient, database: str, *, alone: bool) -> dict[str, ServerTable]:
        try:
            return await self._look(one, database)
        except UnavailableError as error:
            if alone:
                raise
            raise UnavailableError(
                f"{one.hosts.current} does not answer, and {self._names.table} is changed on every host; run "
                f"labelstream init again when it does, and it goes on where it was: {error}",
                setting="CLICKHOUSE_HOST",
            ) from error

    def _step(self, found: dict[str, ServerTable]) -> Step:
        return next_step(*(_ready(found.get(name)) for name in self._names))

    async def _look(self, client: ClickHouseClient, database: str) -> dict[str, ServerTable]:
        rows = await client.rows(
            "SELECT name, engine, engine_full, sorting_key FROM system.tables\n"
            "WHERE database = {database:String} AND name IN {names:Array(String)}",
            {"database": database, "names": list(self._names)},
        )
        return {name: ServerTable(*described) for name, *described in rows}


def _ready(table: ServerTable | None) -> bool | None:
    """Whether in ``table`` only copies of one message are merged."""
    if table is None:
        return None
    return "Replacing" not in table.engine or set(columns_in(table.key)).issuperset(MESSAGE_PLACE)
