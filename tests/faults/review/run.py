"""One run: people label, correct and undo while faults strike; then the verdict."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.schema.database import _add_columns
from streams.core.environment import load
from streams.ports.lookups import Place
from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.outages import Running
from tests.faults.review.line import Line
from tests.faults.review.people import DESKS, People
from tests.faults.review.verdict import AGAIN, verdict
from tests.faults.world import PARTITIONS, World
from tests.upgrade import dump
from tests.waiting import eventually

SINKS = ("sink-1", "sink-2")
# Of the drawn rows half are for two people.
AUDITED = {"REVIEW_AUDIT_SHARE": "0.4", "REVIEW_OVERLAP": "0.5"}


@dataclass
class Report:
    """``wrong``: what is not as it was decided; empty if every decision stands."""

    rows: int
    done: Counter[str]
    faults: Counter[str]
    wrong: list[str]
    seconds: float

    def line(self) -> str:
        """For people."""
        verdict = f"{len(self.wrong)} WRONG" if self.wrong else "each row's last decision stands"
        done = ", ".join(f"{count} {what}" for what, count in sorted(self.done.items()))
        faults = ", ".join(f"{count} {what}" for what, count in sorted(self.faults.items()))
        return f"{self.rows} rows: {verdict}; {done}; faults: {faults}; {self.seconds:.0f} s"


class ReviewRun:
    """One run, made from ``seed``. ``name`` becomes the topics' prefix and the database."""

    def __init__(
        self,
        parts: World,
        name: str,
        folder: Path,
        *,
        rows: int,
        seed: int,
        seconds: float,
        upgrade: bool,
        broker: bool,
    ) -> None:
        """``seconds``: about how long people take for all rows, so that faults meet their decisions.
        ``upgrade``: begin with tables of 0.1.0. ``broker``: kill Kafka too."""
        self._parts = parts
        self._name = name
        self._folder = folder
        self._rows = rows
        self._chance = random.Random(seed)
        self._rest_seconds = DESKS * seconds / rows / 2
        self._upgrade = upgrade
        self._broker = broker
        self._line = Line(parts.clickhouse_port)
        self._faults: Counter[str] = Counter()
        self._settings = load(parts.environment(name, **AUDITED), None)
        self._people: People
        self._sinks: dict[str, Actor] = {}
        # When the tables had the new key, by the messages' clock.
        self._migrated_at = float("inf") if upgrade else 0.0

    async def run(self) -> Report:
        """From an empty source to the verdict; leaves no process behind."""
        began = time.monotonic()
        pipeline = Running(self._parts, self._name, self._folder)
        server = await self._line.start()
        environment = self._parts.environment(self._name, CLICKHOUSE_PORT=str(self._line.port))
        self._sinks = {name: Actor(name, environment, self._folder) for name in SINKS}
        try:
            await self._label_rows(pipeline)
            self._people = People(self._settings, await self._rows_of(), self._chance, self._rest_seconds)
            self._people.only_unsure = self._upgrade
            for sink in self._sinks.values():
                sink.start()
            desks = asyncio.ensure_future(self._people.work())
            if self._upgrade:
                await self._init_with_kills(pipeline)
            await self._strike_until(desks)
            await desks
            wrong = await self._judge()
            await self._merge()
            wrong += await self._judge()
        finally:
            for sink in self._sinks.values():
                sink.ask_to_leave()
            await asyncio.gather(*(asyncio.to_thread(sink.leave) for sink in self._sinks.values()))
            server.close()
        self._faults["cut answers"] = self._line.cuts
        return Report(self._rows, self._people.done, self._faults, wrong, time.monotonic() - began)

    async def _judge(self) -> list[str]:
        return await verdict(
            self._parts,
            self._name,
            self._people,
            self._settings,
            migrated_at=self._migrated_at,
            keep_running=self._start_sinks,
        )

    async def _rows_of(self) -> list[Place]:
        sql = f"SELECT DISTINCT created_at, row_id FROM {self._name}.logs_labeled"
        return [Place(at.replace(tzinfo=UTC), row_id) for at, row_id in await self._parts.query(sql)]

    async def _label_rows(self, pipeline: Running) -> None:
        try:
            await pipeline.start()
            if self._upgrade:
                await self._old_tables()
            ids = await pipeline.insert(self._rows)
            await pipeline.labeled(ids)
            await pipeline.stored(ids)
            await self._replay(pipeline)
        finally:
            await pipeline.stop()

    async def _replay(self, pipeline: Running) -> None:
        """Every row gets a label of a second version: that changes nothing of which rows are drawn."""
        words = ("replay", "--from-table", "--version", AGAIN)
        code, log = await asyncio.to_thread(pipeline.actors["sink-1"].run, *words)
        assert code == 0, log
        sql = f"SELECT uniqExact(row_id) FROM {self._name}.logs_labeled WHERE label_version = '{AGAIN}'"

        async def stored() -> bool:
            return await self._parts.query(sql) == [(self._rows,)]

        await eventually(stored, "the second version's labels are stored")
        self._faults["replays"] += 1

    async def _old_tables(self) -> None:
        """Put the tables of 0.1.0 in the place of today's, before anything is stored. They have today's
        columns, which `init` adds at its beginning; without them the sink waits.
        """
        saved = dump.load("0.1.0")
        for table in saved.tables:
            if table.name in ("logs_labeled", "logs_augmented"):
                await self._parts.command(f"DROP TABLE {self._name}.{table.name} SYNC")
                await self._parts.command(table.ddl.replace(saved.name, self._name))
                await self._add_columns(table.name)
        await self._parts.command(f"TRUNCATE TABLE {self._name}.schema_migrations")

    async def _add_columns(self, table: str) -> None:
        columns = await self._parts.query(
            f"SELECT name FROM system.columns WHERE database = '{self._name}' AND table = '{table}'"
        )
        async with ClickHouseClient.from_settings(self._settings) as client:
            await _add_columns(client, self._name, table, {name for (name,) in columns})

    # --- faults ---

    async def _strike_until(self, desks: asyncio.Future[None]) -> None:
        """One fault after the other: each kind once at least, and on until the people are done."""
        kinds = [self._kill, self._pause, self._cut, self._rewind, self._merge, self._clickhouse, self._api]
        if self._broker:
            kinds.append(self._kafka)
        first = True
        while first or not desks.done():
            self._chance.shuffle(kinds)
            for kind in kinds:
                self._start_sinks()
                await asyncio.sleep(self._chance.uniform(0.2, 1.0))
                await kind()
                if desks.done() and not first:
                    break
            first = False
        self._start_sinks()

    def _start_sinks(self) -> None:
        for sink in self._sinks.values():
            sink.start()

    async def _kill(self) -> None:
        await asyncio.to_thread(self._sinks[self._chance.choice(SINKS)].kill)
        self._faults["kills"] += 1

    async def _api(self) -> None:
        """Both processes of the API die while somebody answers, if anybody does."""
        for process in self._people.processes:
            self._faults["cut calls of the API"] += await process.die()
        self._faults["kills of the API"] += 1

    async def _pause(self) -> None:
        sink = self._sinks[self._chance.choice(SINKS)]
        process = sink.pause()
        await asyncio.sleep(self._chance.uniform(7.0, 9.0))
        sink.resume(process)
        self._faults["pauses"] += 1

    async def _cut(self) -> None:
        """Cut the answer of the next insert, if there is one soon."""
        cuts = self._line.cuts
        self._line.cut_next()
        for _ in range(30):
            if self._line.cuts > cuts:
                break
            await asyncio.sleep(0.1)

    async def _rewind(self) -> None:
        """Set the sinks' group back, as Kafka's own tools do when nobody is in it."""
        for sink in self._sinks.values():
            await asyncio.to_thread(sink.kill)
        places = [TopicPartition(f"{self._name}.labeled", number) for number in range(PARTITIONS)]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._parts.kafka, group_id=f"{self._name}-sink", enable_auto_commit=False
        )

        async def set_back() -> bool:
            try:
                for place in places:
                    end = await consumer.committed(place) or 0
                    back = self._chance.choice((0, self._chance.randint(0, end)))
                    await consumer.commit({place: OffsetAndMetadata(back, "")})
            except KafkaError:
                return False  # the dead ones are still members
            return True

        async with consumer:
            consumer.assign(places)
            await eventually(set_back, "the group is empty", pause=0.5)
        self._faults["rewinds"] += 1

    async def _merge(self) -> None:
        for table in ("logs_labeled", "logs_augmented"):
            await self._parts.command(f"OPTIMIZE TABLE {self._name}.{table} FINAL")
        self._faults["merges"] += 1

    async def _clickhouse(self) -> None:
        await self._parts.kill_clickhouse_in_an_insert(self._name)
        await asyncio.sleep(self._chance.uniform(0.5, 2.0))
        await asyncio.to_thread(self._parts.start, "clickhouse")
        self._faults["kills of ClickHouse"] += 1

    async def _kafka(self) -> None:
        await asyncio.to_thread(self._parts.kill, "kafka")
        await asyncio.sleep(self._chance.uniform(0.5, 2.0))
        await asyncio.to_thread(self._parts.start, "kafka")
        self._faults["kills of Kafka"] += 1

    async def _init_with_kills(self, pipeline: Running) -> None:
        """`labelstream init`, killed on its way; then once more, to the end."""
        actor = pipeline.actors["sink-1"]
        for _ in range(self._chance.randint(1, 2)):
            started = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "streams.cli", "init"),
                env=actor._environment,
                cwd=self._folder,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                await asyncio.wait_for(started.wait(), self._chance.uniform(2.0, 10.0))
            except TimeoutError:
                started.kill()
                await started.wait()
                self._faults["kills of init"] += 1
        await asyncio.to_thread(initialise, actor)
        keys = await self._parts.query(
            f"SELECT count() FROM system.tables WHERE database = '{self._name}' "
            "AND name IN ('logs_labeled', 'logs_augmented') AND endsWith(sorting_key, '_offset')"
        )
        assert keys == [(2,)], "init has not migrated the tables"
        self._migrated_at = time.time() * 1000
        self._people.only_unsure = False
