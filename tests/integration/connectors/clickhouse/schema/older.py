"""A result database as 0.1.0 made it, sinks that write to it, and a client that is killed at a statement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema import database as schema
from connectors.clickhouse.schema.migrations import migrate
from connectors.clickhouse.schema.place_in_key import PlaceInKey
from connectors.clickhouse.schema.schema_lock import SchemaLock
from connectors.clickhouse.sink.batch import to_batch
from connectors.clickhouse.sink.sink import Sink
from streams.core.label_version import HUMAN
from streams.core.messages import Augmented, Labeled
from streams.core.records import Commit, Partition, Record
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.engine import Database, sink_for
from tests.unit.connectors.clickhouse.sink.fakes import (
    A0,
    L0,
    START,
    FakeKafka,
    FakeLease,
    augmented,
    labeled,
)
from tests.upgrade import dump

DEAD_SECONDS = 0.6
SLICE_ROWS = 5


class Killed(BaseException):
    """The process is gone."""


class MortalClient(ClickHouseClient):
    """A client whose process can be killed: from then on nothing of it reaches the server."""

    before: Callable[[str], Awaitable[None]] | None = None
    die_at: tuple[int, bool] | None = None  # at this statement, and whether the server still gets it

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.statements: list[str] = []
        self._dead = False

    async def command(
        self, sql: str, parameters: Mapping[str, Any] | None = None, *, query_id: str | None = None
    ) -> Any:
        return await self._mortally(
            sql, lambda: super(MortalClient, self).command(sql, parameters, query_id=query_id)
        )

    async def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = await self._mortally(
            sql, lambda: super(MortalClient, self).rows(sql, parameters)
        )
        return found

    async def _mortally(self, sql: str, call: Callable[[], Awaitable[Any]]) -> Any:
        if self._dead:
            raise Killed
        self.statements.append(sql)
        number, reaches = self.die_at or (-1, False)
        last = len(self.statements) - 1 == number
        self._dead = last
        if last and not reaches:
            raise Killed
        if self.before is not None:
            await self.before(sql)
        answer = await call()
        if last:
            raise Killed
        return answer


async def old_tables(client: ClickHouseClient, settings: Settings) -> None:
    """Put the tables of 0.1.0, without rows, in the place of today's. Their parts are not merged.

    They have the columns of today, which `init` adds before anything else, so that today's sink can write.
    """
    name = settings.result_database
    await client.command(f"DROP DATABASE IF EXISTS {name} SYNC")
    await client.command(f"CREATE DATABASE {name}")
    saved = dump.load("0.1.0")
    for table in saved.tables:
        await client.command(table.ddl.replace(saved.name, name))
    present = await schema._present(client, name)
    for table_name in ("logs_labeled", "logs_augmented"):
        await schema._add_columns(client, name, table_name, present[table_name])
        await client.command(f"SYSTEM STOP MERGES {name}.{table_name}")


def steps() -> tuple[PlaceInKey, PlaceInKey]:
    """The migrations, in small slices and without waiting for inserts."""
    return (
        PlaceInKey(2, "logs_labeled", slice_rows=SLICE_ROWS, settle_seconds=0.0),
        PlaceInKey(3, "logs_augmented", slice_rows=SLICE_ROWS, settle_seconds=0.0),
    )


async def migrate_quickly(
    client: ClickHouseClient, settings: Settings, *, dead_seconds: float = DEAD_SECONDS
) -> None:
    """As `labelstream init`, but a silent rival is soon taken for dead."""
    database = settings.result_database
    lock = SchemaLock(client, database, beat_seconds=DEAD_SECONDS / 3, dead_seconds=dead_seconds)
    await migrate(client, database, steps(), lock=lock)


class Traffic:
    """Decisions about rows and their variants, and the sinks that store them, one after the other."""

    def __init__(self, database: Database) -> None:
        self._client, self._settings = database
        self.kafka = FakeKafka()
        self.told: dict[Partition, list[Labeled]] = {L0: [], A0: []}
        self._commits = {L0: Commit(-1), A0: Commit(-1)}
        self._generation = 0
        self._sink: Sink | None = None

    def publish(self, partition: Partition, row: int, label: str, second: int) -> Record:
        """A person's label of ``row``, or its variants."""
        at = START + timedelta(seconds=second)
        changes = {"label": label, "label_version": HUMAN, "model": "human:anna", "labeled_at": at}
        one = labeled(row, **changes) if partition == L0 else augmented(row, **changes, augmented_at=at)
        self.told[partition].append(one)
        return self.kafka.publish(one, partition.topic)

    async def tell(self, row: int, label: str, second: int) -> None:
        """A label and its variants, published and stored."""
        records = [self.publish(partition, row, label, second) for partition in (L0, A0)]
        if self._sink is None:
            await self.heir()
        for record in records:
            await self._store([record])

    async def tell_of(self, rows: range) -> None:
        """A label of each of ``rows``, with its variants, in one insert for each table."""
        for partition in (L0, A0):
            await self._store([self.publish(partition, row, "a", row % 3) for row in rows])

    async def end_insert(self, partition: Partition, table: str, row: int) -> None:
        """An insert that had begun before its table changed its name, and ends now, in ``table``."""
        await self._insert(partition, table, self.publish(partition, row, "late", 1))

    async def store_blindly(self, partition: Partition) -> None:
        """Store the last message once more."""
        table = "logs_labeled" if partition == L0 else "logs_augmented"
        await self._insert(partition, table, self.kafka.logs[partition][-1])

    async def _insert(self, partition: Partition, table: str, record: Record) -> None:
        kind = Labeled if partition == L0 else Augmented
        batch, _ = to_batch(kind, [record], await self.kafka.topic_id(partition.topic))
        await self._client.insert_arrow(self._settings.result_database, table, batch.rows)

    async def heir(self) -> None:
        """Another sink, whose group was rewound: it stores what it finds missing."""
        self._generation += 1
        self._sink = sink_for(self._client, self._settings, self.kafka, lease=FakeLease(self._generation))
        await self._sink.assigned(self._commits, self._generation)
        for partition in self.told:
            if log := self.kafka.logs.get(partition, []):
                await self._store(log)

    async def _store(self, records: list[Record]) -> None:
        assert self._sink is not None
        await self._sink.store(records)

    async def check(self, database: Database) -> None:
        """Each message is stored once, and the newest label of each row is the current one."""
        client, settings = database
        name = settings.result_database
        for partition, table in ((L0, "logs_labeled"), (A0, "logs_augmented")):
            rows = await client.rows(
                f"SELECT _offset, row_id, toString(label) FROM {name}.{table} ORDER BY _offset"
            )
            told = [(n, one.row_id, one.label) for n, one in enumerate(self.told[partition])]
            assert rows == told, (table, [one for one in told if one not in rows], rows)
        newest: dict[str, tuple[Any, int, str]] = {}
        for offset, one in enumerate(self.told[L0]):
            mine = (one.labeled_at, offset, one.label)
            newest[one.row_id] = max(newest.get(one.row_id, mine), mine)
        current = await client.rows(f"SELECT row_id, toString(label) FROM {name}.logs_labeled_current")
        assert dict(current) == {row: label for row, (_, _, label) in newest.items()}


def mortal(settings: Settings, die_at: tuple[int, bool] | None = None) -> MortalClient:
    """A client of its own for one life of `labelstream init`."""
    client = MortalClient.from_settings(settings)
    assert isinstance(client, MortalClient)
    client.die_at = die_at
    return client
