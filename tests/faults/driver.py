"""Runs a plan against the real parts: feeds the source, lets the faults strike, waits, and takes stock."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.faults.actors import Actor
from tests.faults.ledger import Ledger, judge, plain, take_stock, trace
from tests.faults.plan import Batch, Fault, Plan
from tests.faults.watch import CallWatch, LagWatch
from tests.faults.world import World
from tests.waiting import Stalled, eventually

# After everything is stored: whoever is late with a second copy of something has time to show it.
GRACE_SECONDS = 2.0
_COLUMNS = ("id", "query_text", "domain", "created_at", "user_id", "session_id")
_STANDING = ("poller-1", "poller-2", "agents-1", "agents-2", "sink-1", "sink-2")


@dataclass
class Outcome:
    """A run's end. ``violations`` is empty if every promise was kept."""

    plan: Plan
    violations: list[str]
    ledger: Ledger
    seconds: float
    settled_after: float  # seconds from the last fault's end until everything was stored
    longest_standstill: float
    texts: int
    happened: list[str]
    folder: Path
    where: str = ""
    memory: dict[str, list[int]] = field(default_factory=dict)

    def report(self) -> str:
        """For a person who must find out what went wrong."""
        return "\n".join(
            [
                f"{len(self.violations)} violations; replay with seed {self.plan.seed}, logs in",
                str(self.folder),
                str(self.plan),
                "what happened:",
                *self.happened,
                *self.violations[:40],
                self.where,
            ]
        )


class Driver:
    """One run. ``name`` becomes the topics' prefix and the database."""

    def __init__(self, world: World, name: str, plan: Plan, folder: Path) -> None:
        self._world = world
        self._name = name
        self._plan = plan
        self._folder = folder
        environment = world.environment(name)
        names = {*_STANDING, *(f.target for f in plan.faults if f.kind == "join")}
        self.actors = {one: Actor(one, environment, folder) for one in sorted(names)}
        self._began = 0.0
        self._over_at = 0.0
        self._happened: list[str] = []
        self._breaches: list[str] = []
        self._memory: dict[str, list[int]] = {}
        self._feeding: set[int] = set()
        self._ongoing = 0
        self._lag = LagWatch(world, name)
        self._calls = CallWatch(world, name)

    async def run(self) -> Outcome:
        """Everything from the empty source to the verdict; leaves no process behind."""
        await self._prepare()
        watches = [asyncio.create_task(one) for one in (self._calls.run(), self._lag.run(), self._keep())]
        began = time.monotonic()
        try:
            for name in _STANDING:
                self.actors[name].start()
            self._began = time.monotonic()
            await asyncio.gather(
                *(self._at(batch.at, lambda batch=batch: self._feed(batch)) for batch in self._plan.batches),
                *(self._at(fault.at, lambda fault=fault: self._strike(fault)) for fault in self._plan.faults),
            )
            over = time.monotonic()
            try:
                await self._settle()
            except Stalled as stalled:
                self._breaches.append(str(stalled))
            settled_after = time.monotonic() - over
            await asyncio.sleep(GRACE_SECONDS)
            repeated = await self._calls.repeated()
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            await self._world.standin("DELETE", "/faults")
            await self._dismiss()
        ledger = await take_stock(self._world, self._name, self._plan)
        violations = [*self._breaches, *(f"stood still for 30 s: {place}" for place in self._lag.stuck)]
        violations += [
            f"{kind}: {n} calls after the answer: {text!r}" for (kind, text), n in repeated.items()
        ]
        violations += judge(ledger)
        outcome = Outcome(
            self._plan,
            violations,
            ledger,
            time.monotonic() - began,
            settled_after,
            self._lag.longest,
            self._calls.texts,
            self._happened,
            self._folder,
            memory=self._memory,
        )
        if violations:
            outcome.where = trace(ledger, {a.name: a.log_lines("", 100_000) for a in self.actors.values()})
        return outcome

    async def _prepare(self) -> None:
        await self._world.command(f"CREATE DATABASE IF NOT EXISTS {self._name}")
        await self._world.command(
            f"CREATE TABLE {self._name}.logs (id UInt64, query_text String, domain Nullable(String), "
            f"created_at {self._plan.time_type}, user_id Nullable(String), session_id Nullable(String), "
            "confidence Nullable(Float32)) ENGINE = MergeTree ORDER BY created_at"
        )
        await asyncio.to_thread(initialise, self.actors["sink-1"])
        await self._world.keep_doubles(self._name)

    async def _at(self, at: float, act: Callable[[], Awaitable[None]]) -> None:
        await asyncio.sleep(max(0.0, self._began + at - time.monotonic()))
        await act()

    def _say(self, what: str) -> None:
        self._happened.append(f"{time.monotonic() - self._began:6.2f} s  {what}")

    # --- the source ---

    async def _feed(self, batch: Batch) -> None:
        """Insert; when ClickHouse is away, again. What the table holds in the end is what counts."""
        now = datetime.now(UTC)
        left = [
            (row.id, row.text, None, now - timedelta(seconds=row.age), row.user, None) for row in batch.rows
        ]
        ids = ",".join(str(row.id) for row in batch.rows)
        while True:
            try:
                await self._world.insert(f"{self._name}.logs", left, _COLUMNS)
                return
            except Exception:
                await asyncio.sleep(0.5)
            with contextlib.suppress(Exception):
                sql = f"SELECT 1 FROM {self._name}.logs WHERE id IN ({ids}) LIMIT 1"
                if await self._world.query(sql):
                    return  # one insert, one part: stored whole

    # --- faults ---

    async def _strike(self, fault: Fault) -> None:
        self._ongoing += 1
        self._lag.outage = True
        try:
            await getattr(self, f"_{fault.kind}")(fault)
        finally:
            self._ongoing -= 1
            self._lag.outage = self._ongoing > 0

    async def _kill(self, fault: Fault) -> None:
        actor = self.actors[fault.target]
        actor.wanted = False
        pid = await asyncio.to_thread(actor.kill)
        self._say(f"kill -9 {fault.target} (process {pid})")
        await asyncio.sleep(fault.seconds)
        actor.start()

    async def _pause(self, fault: Fault) -> None:
        actor = self.actors[fault.target]
        pid = actor.pause()
        self._say(f"SIGSTOP {fault.target} (process {pid})")
        await asyncio.sleep(fault.seconds)
        actor.resume(pid)
        self._say(f"SIGCONT {fault.target} (process {pid})")

    async def _join(self, fault: Fault) -> None:
        self.actors[fault.target].start()
        self._say(f"{fault.target} joins")

    async def _leave(self, fault: Fault) -> None:
        took = await asyncio.to_thread(self.actors[fault.target].leave)
        self._say(f"{fault.target} leaves: {took} s")
        if took is None:
            self._breaches.append(f"{fault.target} did not end within 10 s of SIGTERM")

    async def _clickhouse(self, fault: Fault) -> None:
        met = await self._world.kill_clickhouse_in_an_insert(self._name)
        self._say(f"kill -9 ClickHouse, in an insert: {met}")
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._world.start, "clickhouse")
        await self._world.keep_doubles(self._name)
        self._say("ClickHouse is back")

    async def _broker(self, fault: Fault) -> None:
        await asyncio.to_thread(self._world.kill, "kafka")
        self._say("kill -9 Kafka")
        await asyncio.sleep(fault.seconds)
        await asyncio.to_thread(self._world.start, "kafka")
        self._say("Kafka is back")

    async def _llm(self, fault: Fault) -> None:
        await self._world.standin("POST", "/faults", [{**fault.detail, "seconds": fault.seconds}])
        self._say(f"the model: {fault.detail}")
        await asyncio.sleep(fault.seconds)

    # --- waiting ---

    async def _keep(self) -> None:
        """Start again what ends by itself, as a supervisor would, and note memory."""
        while True:
            for actor in self.actors.values():
                code = actor.collect()
                if code is not None and actor.wanted:
                    self._say(f"{actor.name} ended by itself, exit code {code}")
                    actor.start()
                self._memory.setdefault(actor.name, []).append(actor.rss)
            await asyncio.sleep(0.5)

    async def _settle(self) -> None:
        """Wait until every source row is settled and every labelled one has variants or was given up."""
        skipped = {str(row.id) for batch in self._plan.batches for row in batch.rows if row.skip}
        expected: Counter[str] = Counter()
        found: dict[str, set[str]] = {}

        async def settled() -> bool:
            with contextlib.suppress(Exception):
                if not expected:
                    sql = f"SELECT toString(id), count() FROM {self._name}.logs GROUP BY id"
                    expected.update({i: n for i, n in await self._world.query(sql) if i not in skipped})
                for table in ("logs_labeled", "logs_augmented", "dead_letters"):
                    rows = await self._world.query(f"SELECT DISTINCT row_id FROM {self._name}.{table}")
                    found[table] = {row_id for (row_id,) in rows}
                return self._all_stored(expected, found)
            return False

        await eventually(
            settled,
            "everything is stored after the last fault",
            measure=lambda: {table: len(rows) for table, rows in found.items()},
            pause=0.5,
        )

    @staticmethod
    def _all_stored(expected: Counter[str], found: dict[str, set[str]]) -> bool:
        settled = Counter(plain(row_id) for row_id in found["logs_labeled"] | found["dead_letters"])
        if any(settled[id_] < count for id_, count in expected.items()):
            return False
        return not found["logs_labeled"] - found["logs_augmented"] - found["dead_letters"]

    async def _dismiss(self) -> None:
        """Ask all to leave at once; note who does not in time."""
        alive = [actor for actor in self.actors.values() if actor.running]
        for actor in alive:
            actor.resume(actor.pid)
            actor.ask_to_leave()
        took = await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in alive))
        for actor, seconds in zip(alive, took, strict=True):
            if seconds is None:
                self._breaches.append(f"{actor.name} did not end within 10 s of SIGTERM")


def initialise(actor: Actor) -> None:
    """`labelstream init` for a run."""
    code, log = actor.run("init")
    assert code == 0, log
