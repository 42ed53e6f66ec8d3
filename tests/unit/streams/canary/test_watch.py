"""When a canary ends, and when the gate is asked."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.canary import commands, rivals
from streams.canary import watch as module
from streams.canary.figures import CanaryFindings, judge
from streams.canary.run import run_canary
from streams.canary.watch import CanaryWatch, GateTurns, Standstill
from streams.core.codec import REPLAY_JOB
from streams.core.errors import ConfigurationError, GateError
from streams.core.records import Commit, Partition, Record
from streams.core.times import moment
from streams.core.topics import Topics
from streams.jobs.job import Job, Jobs
from streams.ports.lookups import Place
from streams.quality.comparison import compare
from streams.quality.gate import JudgedRow, Passage


def label_of(name: str) -> GivenLabel:
    return GivenLabel(moment(0), name, None, None)


AGREES: dict[str, Any] = {"agreement": 1.0, "compared": 10, "moved": []}


class World:
    """Kafka and the tables, as far as a watch looks at them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, job: Job) -> None:
        self.jobs = Jobs()
        self.jobs.jobs[job.id] = job
        self.topics = Topics()
        self.client = None
        self.settings = SimpleNamespace(topic_partitions=1)
        self.tail = self.lags = self
        self.passed = 0
        self.letters: list[Record] = []
        self.stored = 0
        self.waiting = 0
        self.found = CanaryFindings("v1", False, None, None, (), AGREES)
        self.notes: list[Any] = []
        self.promoted: list[str] = []
        self.gate_refuses = False

        async def unlabeled(*_: Any) -> int:
            return self.waiting

        async def count(*_: Any) -> int:
            return self.stored

        async def find(*_: Any, share: float | None) -> CanaryFindings:
            return self.found

        async def note(_: Any, *messages: Any) -> None:
            self.notes += messages

        async def promote(_: Any, version: str) -> dict[str, Any]:
            if self.gate_refuses:
                raise GateError("worse", {})
            self.promoted.append(version)
            return {"verdict": {"text": "better"}}

        async def rows(_: Any, __: Any, version: str, places: Sequence[Place]) -> list[str]:
            return [f"{version}/{place.row_id}" for place in places]

        for name, fake in (
            ("count_unlabeled", unlabeled),
            ("count_of", count),
            ("find", find),
            ("note", note),
            ("promote", promote),
            ("rows_at", rows),
        ):
            monkeypatch.setattr(module, name, fake)
        monkeypatch.setattr(rivals, "note", note)
        monkeypatch.setattr(commands, "read_jobs", self.read_jobs)

    async def read_jobs(self, *_: Any) -> Jobs:
        return self.jobs

    async def read_many(self, starts: Mapping[Partition, int]) -> AsyncIterator[list[Record]]:
        (start,) = starts.values()
        if self.letters[start:]:
            yield self.letters[start:]

    async def positions(self, *_: Any) -> dict[int, Commit]:
        return {0: Commit(self.passed)}

    def fails(self, job: str, times: int) -> None:
        for _ in range(times):
            at = len(self.letters)
            self.letters.append(Record("t", 0, at, 0, b"1", b"", ((REPLAY_JOB, job.encode()),)))


Made = Callable[..., tuple[World, CanaryWatch]]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    def make(clock: Callable[[], float] = time.monotonic, **more: Any) -> tuple[World, CanaryWatch]:
        job = Job(source="live", version="v2", share=0.05, published=100, **more)
        world = World(monkeypatch, job)
        return world, CanaryWatch(world, job, clock=clock)  # type: ignore[arg-type]

    return make


async def test_figures_are_noted_when_they_change(made: Made) -> None:
    world, watch = made()
    world.stored = 40
    assert await watch.look() is None
    assert await watch.look() is None
    assert len(world.notes) == 1
    world.stored = 41
    await watch.look()
    assert [len(world.notes), b'"pairs":41' in world.notes[-1].value] == [2, True]


async def test_failures_of_its_own_rows_end_it(made: Made) -> None:
    world, watch = made()
    (job,) = world.jobs.jobs
    world.fails("another", 50)
    world.fails(job, 6)
    # The sink is behind and has stored nothing, but the workers have answered the other 94.
    assert await watch.look() is None
    world.waiting = 100
    world.stored = 94
    assert await watch.look() is None
    world.fails(job, 30)
    stop = await watch.look()
    assert stop is not None
    assert (stop.why, stop.text) == ("failures", "36 of 130 rows got no label of v2")


async def test_the_version_of_live_rows_needs_no_canary(made: Made) -> None:
    world, watch = made()
    world.found = CanaryFindings("v1", True, None, None, (), AGREES)
    stop = await watch.look()
    assert stop is not None
    assert stop.why == "live"


async def test_another_one_begun_at_the_same_time_is_told_and_never_runs(made: Made) -> None:
    world, watch = made()
    (first,) = world.jobs.jobs.values()
    second = Job(source="live", version="v3", share=0.05)
    world.jobs.jobs[second.id] = second
    with pytest.raises(ConfigurationError, match="a canary of v2 runs"):
        await commands._begun(world, second)  # type: ignore[arg-type]
    assert (await commands._begun(world, first))["version"] == "v2"  # type: ignore[arg-type]
    assert world.jobs.canaries() == [first]
    # Who began it has died before it could take it back.
    del world.jobs.wishes[second.id]
    await watch.look()
    assert world.jobs.canaries() == [first]
    assert world.jobs.last_canary() == first


def passage(answer: str, rows: int = 10) -> Passage:
    verdict = compare([], 0.03)
    object.__setattr__(verdict, "rows", rows)
    return Passage("v2", "v1", answer in ("better", "not worse"), answer, verdict)


async def test_only_the_gate_promotes_and_only_where_it_was_asked_for(made: Made) -> None:
    world, watch = made()
    world.found = CanaryFindings("v1", False, None, passage("better"), (), AGREES)
    assert await watch.look() is None
    world, watch = made(promote=True)
    for found in (None, Passage("v2", "v1", True, "no person has labelled rows"), passage("worse")):
        world.found = CanaryFindings("v1", False, None, found, (), AGREES)
        assert await watch.look() is None
    world.found = CanaryFindings("v1", False, None, passage("better", 20), (), AGREES)
    world.gate_refuses = True  # somebody answered in between
    assert await watch.look() is None
    world.gate_refuses = False
    world.found = CanaryFindings("v1", False, None, passage("not worse", 30), (), AGREES)
    stop = await watch.look()
    assert stop is not None
    assert (stop.why, world.promoted) == ("promoted", ["v2"])


async def test_judged_rows_are_wanted_only_by_a_canary_that_may_promote(made: Made) -> None:
    lacking = [Place(moment(1), "a"), Place(moment(2), "b")]
    for promotes in (False, True):
        world, watch = made(promote=promotes)
        world.found = CanaryFindings("v1", False, None, passage("undecided"), lacking, AGREES)
        await watch.look()
        assert list(await watch.wanted()) == (["v1/a", "v1/b"] if promotes else [])
        assert list(await watch.wanted()) == []


async def test_no_progress_beside_live_rows_ends_it() -> None:
    now = [0.0]
    still = Standstill(lambda: now[0])
    assert not still.saw((1, 0, 5), 100, waits=True)
    now[0] = 299.0
    assert not still.saw((1, 0, 5), 500, waits=True)
    assert not still.saw((1, 0, 6), 500, waits=True)  # another replay goes first
    now[0] = 5_000.0
    assert not still.saw((1, 0, 6), 510, waits=True)  # there is hardly any live row either
    assert still.saw((1, 0, 6), 600, waits=True)
    assert not still.saw((1, 0, 6), 700, waits=False)


async def test_rows_that_wait_for_ever_end_it(made: Made) -> None:
    now = [0.0]
    world, watch = made(lambda: now[0], position={"topic": "one", "at": {0: 10}})
    (job,) = world.jobs.jobs.values()
    assert await watch.look() is None
    now[0] = 1_000.0
    assert await watch.look() is None  # no live row got a label either
    job.position = {"topic": "one", "at": {0: 900}}
    stop = await watch.look()
    assert stop is not None
    assert (stop.why, f"replay drop {job.id}" in stop.text) == ("failures", True)
    world.passed = 1  # the workers go on
    assert await watch.look() is None


def test_the_gate_is_asked_when_rows_grow_and_when_nobody_answers() -> None:
    now = [0.0]
    turns = GateTurns(lambda: now[0])
    assert not turns.now(0)
    asked = [rows for rows in range(1, 1001) if turns.now(rows)]
    assert len(asked) < 60
    assert not turns.now(asked[-1] + 1)
    now[0] += 61
    assert turns.now(asked[-1] + 1)
    assert not turns.now(asked[-1] + 1)


def test_drawn_rows_are_judged_alone_if_there_are_enough_and_count_by_both_draws() -> None:
    def row(n: int, probability: float | None) -> JudgedRow:
        return JudgedRow(Place(moment(n), str(n)), "a", probability)

    drawn = [row(n, 0.05 if n % 2 else 0.5) for n in range(100)]
    reviewed = [row(n, None) for n in range(100, 150)]
    now = {one.place: label_of("a") for one in (*drawn, *reviewed)}
    then = now | {one.place: label_of("b") for one in reviewed}
    found = judge([*drawn, *reviewed], now, then, 0.03, 0.05)
    assert found is not None
    assert (found.drawn, found.verdict.rows, found.verdict.lost, found.evidence) == (True, 100, 0, 1.0)
    few = judge([*drawn[:50], *reviewed], now, then, 0.03, 0.05)
    assert few is not None
    assert (few.drawn, few.verdict.lost, few.evidence > 20) == (False, 50, True)
    assert judge(drawn, now, {}, 0.03, 0.05) is None
    # A row of the canary was drawn with 0.05 at most, so all of these count alike.
    then = now | {drawn[0].place: label_of("b"), drawn[1].place: label_of("b")}
    alike = judge(drawn, now, then, 0.03, 0.05)
    unlike = judge(drawn, now, then, 0.03, None)
    assert alike is not None
    assert unlike is not None
    assert alike.verdict.difference == pytest.approx(-0.02)
    assert unlike.verdict.difference == pytest.approx(-22 / (50 * 20 + 50 * 2))


async def test_a_bug_does_not_leave_it_unwatched(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    _, watch = made()
    looks: list[Any] = [KeyError("odd"), None]

    async def look() -> Any:
        if not looks:
            raise asyncio.CancelledError
        if (error := looks.pop(0)) is not None:
            raise error

    async def pause(seconds: float) -> None:
        pass

    monkeypatch.setattr(watch, "look", look)
    monkeypatch.setattr(watch, "_pause", pause)
    with pytest.raises(asyncio.CancelledError):
        await watch.run()
    assert looks == []


async def test_without_the_packages_no_canary_runs_unwatched(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, _ = made()
    monkeypatch.setitem(sys.modules, "scipy", None)
    (job,) = world.jobs.jobs.values()
    with pytest.raises(ConfigurationError, match="scipy"):
        await run_canary(world, job, None)  # type: ignore[arg-type]
