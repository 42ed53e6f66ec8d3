"""A job that is published, cut off anywhere, and published on: each row once on the replay topic."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from connectors.clickhouse.erasure.erased_list import Erased, nothing_erased
from streams.core.codec import encode
from streams.core.environment import load
from streams.core.errors import LeaseLostError
from streams.core.messages import Row
from streams.core.records import Commit, Outage, Outgoing, Partition, Record, Run
from streams.core.times import micros_of
from streams.core.topics import Topics
from streams.jobs import publishing as replay
from streams.jobs.context import JobContext
from streams.jobs.job import Job, Jobs, Wish
from streams.jobs.leader_election import Leadership
from streams.jobs.masked_source import MaskedRows
from streams.jobs.publishing import Publishing
from streams.jobs.sources import Item, Page, in_sample, item_of
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from tests.unit.connectors.clickhouse.poller.fakes import FakeHeadroom
from tests.unit.streams.privacy.fakes import UNMASKABLE, make_door
from tests.waiting import eventually

ITEMS = [
    Item(str(n), datetime(2026, 1, 1, tzinfo=UTC).isoformat().encode(), n, "x", 0, b"{}") for n in range(1200)
]


_HIDDEN = 3


class World:
    """Kafka in lists. ``dies_after``: so many sends, then the owner is gone."""

    generation = 1

    def __init__(self) -> None:
        self.logs: dict[str, list[Outgoing]] = {}
        self.jobs = Jobs()
        self.dies_after = -1
        self.known: set[tuple[str, int]] = set()
        self.headroom = FakeHeadroom()
        self.outages: dict[Partition, Outage] = {}
        self.dead: set[Partition] = set()
        self.mended = asyncio.Event()

    def mend(self) -> None:
        self.dead, self.outages = set(), {}
        self.mended.set()

    def held(self) -> bool:
        return True

    async def hold(self, generation: int) -> None: ...

    async def send(self, message: Outgoing) -> int:
        log = self.logs.setdefault(message.topic, [])
        log.append(message)
        self.jobs.learn(Record(message.topic, 0, 0, 0, message.key, message.value))
        return len(log) - 1

    async def hand_over(self, runs: Sequence[Run]) -> list[asyncio.Task[list[tuple[int, int]]]]:
        self.dies_after -= 1
        dies = self.dies_after == 0

        async def sent(run: Run) -> list[tuple[int, int]]:
            if (where := Partition(run.topic, run.partition)) in self.dead:
                self.outages[where] = Outage(0.0, "it has no leader")
                await self.mended.wait()
            offsets = [await self.send(Outgoing(*where, *message)) for message in run.messages]
            if dies:
                raise LeaseLostError("killed after it was written")
            return [(offset, 1) for offset in offsets]

        return [asyncio.create_task(sent(run)) for run in runs]

    async def bounds_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        """A slow replica hides the newest messages."""
        written = await self.written_many(partitions)
        return {where: (first, max(first, end - _HIDDEN)) for where, (first, end) in written.items()}

    async def written_many(self, partitions: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {where: (0, len(self.logs.get(where.topic, []))) for where in partitions}

    async def read_many(
        self, starts: Mapping[Partition, int], bounds: Mapping[Partition, tuple[int, int]] | None = None
    ) -> AsyncIterator[list[Record]]:
        ends = await self.bounds_many(list(starts)) if bounds is None else bounds
        for where, start in starts.items():
            log = self.logs.get(where.topic, [])
            yield [
                Record(where.topic, 0, n, 0, m.key, m.value, tuple(m.headers))
                for n, m in enumerate(log[: ends[where][1]])
                if n >= start
            ]

    async def topic_id(self, topic: str) -> UUID:
        return UUID(int=1)

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        return {topic: UUID(int=1) for topic in topics}

    async def positions(self, group: str, topics: Sequence[str]) -> dict[Partition, Commit]:
        # The workers have done everything: what is on its way gives no help.
        return {Partition(topic, 0): Commit(len(self.logs.get(topic, []))) for topic in topics}


class Feed:
    def __init__(self, items: Sequence[Item], letters: Sequence[Outgoing] = ()) -> None:
        self.items = items
        self.letters = letters

    async def count(self) -> int:
        return len(self.items)

    async def pages(self, position: Any) -> AsyncIterator[Page]:
        for start in range(position or 0, len(self.items), 300):
            letters = [] if start else list(self.letters)
            yield Page(list(self.items[start : start + 300]), start + 300, letters)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()

    async def read_jobs(*_: Any) -> Jobs:
        found = Jobs()
        found.jobs = {name: job.model_copy() for name, job in made.jobs.jobs.items()}
        return found

    async def list_versions(*_: Any) -> list[Any]:
        return []

    async def count_of(*_: Any) -> int:
        return len(made.known)

    async def labelled(
        _: Any, __: Any, version: str, keys: Sequence[tuple[str, int]]
    ) -> set[tuple[str, int]]:
        return made.known & set(keys)

    for replaced in (read_jobs, list_versions, count_of, labelled):
        monkeypatch.setattr(replay, replaced.__name__, replaced)
    return made


def publishing(
    world: World,
    job: Job,
    items: Sequence[Item] = ITEMS,
    letters: Sequence[Outgoing] = (),
    erased: Erased = nothing_erased,
    mask: MaskedRows | None = None,
) -> Publishing:
    partitions = 1 + max(item.partition for item in items)
    settings = load({"TOPIC_PARTITIONS": str(partitions)}, None)
    context = JobContext(settings, Topics("esk"), *([world] * 4), world.jobs, world.headroom)  # type: ignore[arg-type]

    async def open_source(_: Job, sent: list[str]) -> Any:
        return Feed(items, letters)

    owner = Leadership(1, world, world)  # type: ignore[arg-type]
    return Publishing(context, job.id, open_source, owner, lambda job, left: None, erased, mask)


def published(world: World) -> list[str]:
    return [(message.key or b"").decode() for message in world.logs.get("esk.replay", ())]


@pytest.mark.parametrize("dies_after", [1, 2, 3, 4])
async def test_cut_off_after_any_send_it_goes_on_and_doubles_nothing(world: World, dies_after: int) -> None:
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    world.dies_after = dies_after
    with pytest.raises(LeaseLostError):
        await publishing(world, job)._publish()
    done = await publishing(world, job).run()
    assert published(world) == [item.row_id for item in ITEMS]
    assert done.complete
    assert (done.published, done.settled, done.read) == (1200, 0, 1200)
    headers = dict(world.logs["esk.replay"][0].headers)
    assert (headers["label-version"], headers["to"], headers["replay-job"]) == (
        b"v2",
        b"shadow",
        job.id.encode(),
    )


async def test_what_is_labelled_is_left_out_and_a_limit_counts_what_is_published(world: World) -> None:
    world.known = {(str(n), n) for n in range(500)}
    job = Job(source="topic", version="v2", limit=400)
    await world.send(job.message(Topics("esk")))
    done = await publishing(world, job).run()
    assert published(world) == [str(n) for n in range(500, 900)]
    assert done.complete
    assert (done.published, done.settled) == (400, 500)


async def test_rows_of_an_erased_user_are_left_out(world: World) -> None:
    salt = "salt:" + "ab" * 16
    listed = ErasureList([ErasedId("user", digests_of("anna", [salt], None)[0], salt, 5)])

    async def erased() -> ErasureList:
        return listed

    items = [
        Item(str(n), b"t", n, "text", 0, b'{"user_id":"%s"}' % (b"anna", b"boris")[n % 2]) for n in range(10)
    ]
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    done = await publishing(world, job, items, erased=erased).run()
    assert published(world) == ["1", "3", "5", "6", "7", "8", "9"]
    assert (done.published, done.settled) == (7, 3)


async def test_a_user_who_was_erased_before_masking_is_known_by_the_plain_id(world: World) -> None:
    salt, at = "salt:" + "ab" * 16, datetime(2026, 1, 1, tzinfo=UTC)
    listed = ErasureList([ErasedId("user", digests_of("anna", [salt], None)[0], salt, micros_of(at))])

    async def erased() -> ErasureList:
        return listed

    rows = [
        Row(row_id=str(n), text="x", created_at=at, polled_at=at, user_id=("anna", "boris")[n % 2])
        for n in range(4)
    ]
    items = [item_of(row, 0, encode(row)) for row in rows]
    job = Job(source="topic")
    await world.send(job.message(Topics("esk")))
    mask = MaskedRows(make_door(), job, Topics("esk"), 1, where="here")
    done = await publishing(world, job, items, erased=erased, mask=mask).run()
    assert published(world) == ["1", "3"]
    assert (done.published, done.settled) == (2, 2)


async def test_only_chosen_rows_are_masked_and_a_limit_counts_what_is_published(world: World) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [
        Row(row_id=str(n), text="x" if n else UNMASKABLE, created_at=at, polled_at=at) for n in range(200)
    ]
    items = [item_of(row, 0, encode(row)) for row in rows]
    for limit, sample, most in ((10, None, 11), (None, 0.1, 50)):
        world.logs.clear()
        door, job = make_door(), Job(source="topic", limit=limit, sample=sample)
        await world.send(job.message(Topics("esk")))
        mask = MaskedRows(door, job, Topics("esk"), 1, where="here")
        done = await publishing(world, job, items, mask=mask).run()
        assert 0 < door.counts["texts"] <= most
        chosen = [item.row_id for item in items if in_sample(sample)(item)][: door.counts["texts"]]
        assert published(world) == [row_id for row_id in chosen if row_id != "0"]
        assert len(world.logs.get("esk.dead-letter", [])) == done.unreadable == ("0" in chosen)
        assert done.read == 200


async def test_dead_letters_of_the_source_belong_to_the_job_and_its_sample(world: World) -> None:
    letters = [
        Outgoing("esk.dead-letter", 0, item.row_id.encode(), b"", [("created-at", item.created_at)])
        for item in ITEMS[:200]
    ]
    job = Job(source="source", sample=0.1, version="v2")
    await world.send(job.message(Topics("esk")))
    await publishing(world, job, ITEMS[:1], letters).run()
    found = world.logs["esk.dead-letter"]
    assert [one.key for one in found] == [
        item.row_id.encode() for item in ITEMS[:200] if in_sample(0.1)(item)
    ]
    assert {dict(one.headers)["to"] for one in found} == {b"shadow"}


async def test_a_cancelled_job_stops_and_goes_on_later(world: World) -> None:
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    world.jobs.wishes[job.id] = Wish.CANCEL
    assert not (await publishing(world, job).run()).complete
    world.jobs.wishes[job.id] = Wish.RUN
    assert (await publishing(world, job).run()).complete
    assert len(published(world)) == 1200


@pytest.mark.parametrize("one_by_one", [False, True])
async def test_no_more_is_published_than_its_readers_read_within_the_retention(
    world: World, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    monkeypatch.setattr(replay, "_LOOK_SECONDS", 0.0)
    world.headroom = FakeHeadroom(room=70, frees=30)
    before = 0

    async def wrote(seconds: float) -> None:
        nonlocal before
        if (held := len(published(world))) > before:
            assert held - before == (70 if not before else 30)
            before = held

    monkeypatch.setattr(replay.asyncio, "sleep", wrote)
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    work = publishing(world, job)
    work._one_by_one = one_by_one
    done = await work.run()
    assert done.complete
    assert published(world) == [item.row_id for item in ITEMS]
    assert world.headroom.held > 30


async def test_what_is_published_again_is_no_known_row_for_the_workers(world: World) -> None:
    job = Job(source="topic", version="v2", lost={"loss": 7})
    await world.send(job.message(Topics("esk")))
    await publishing(world, job).run()
    found = {dict(message.headers)["recovered"] for message in world.logs["esk.replay"]}
    assert found == {f"{job.id}-7".encode()}


@pytest.mark.parametrize("dies_after", [1, 2, 3])
async def test_what_a_proxy_labelled_is_labelled_again_under_its_version_once(
    world: World, dies_after: int
) -> None:
    world.known = {(item.row_id, item.micros) for item in ITEMS}
    job = Job(source="table", version="v2", to="labeled", proxy_since=0)
    await world.send(job.message(Topics("esk")))
    world.dies_after = dies_after
    with pytest.raises(LeaseLostError):
        await publishing(world, job)._publish()
    done = await publishing(world, job).run()
    assert published(world) == [item.row_id for item in ITEMS]
    assert (done.published, done.settled) == (1200, 0)
    assert {dict(message.headers)["recovered"] for message in world.logs["esk.replay"]} == {job.id.encode()}


@pytest.mark.parametrize("crash", [False, True])
async def test_a_partition_that_cannot_be_written_keeps_no_other_rows_waiting(
    world: World, crash: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_LOOK_SECONDS", 0.0)
    items = [dataclasses.replace(item, partition=n % 2) for n, item in enumerate(ITEMS)]
    letters = [Outgoing("esk.dead-letter", number, b"l", b"letter") for number in (0, 1)]
    world.dead = {Partition("esk.replay", 1), Partition("esk.dead-letter", 1)}
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    running = asyncio.create_task(publishing(world, job, items, letters).run())
    await eventually(lambda: running.done() or len(published(world)) == 600, "the rows of the others")
    assert published(world) == [item.row_id for item in items[::2]]
    assert len(world.logs["esk.dead-letter"]) == 1
    assert not running.done()
    assert world.jobs.named(job.id).position is None
    if crash:
        running.cancel()
        await asyncio.wait([running])
        world.mended = asyncio.Event()  # what the producer had not written is dropped
        world.mend()
        done = await publishing(world, job, items).run()
    else:
        world.mend()
        done = await running
        assert len(world.logs["esk.dead-letter"]) == 2
    assert done.complete
    assert Counter(published(world)) == Counter(item.row_id for item in items)
    assert (done.published, done.read) == (1200, 1200)


@pytest.mark.parametrize("bound", ["_MOST_HELD", "_MOST_PAST"])
async def test_no_more_is_published_than_can_be_learned_again(
    world: World, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(replay, bound, 200)
    items = [dataclasses.replace(item, partition=n % 2) for n, item in enumerate(ITEMS)]
    world.dead = {Partition("esk.replay", 1)}
    job = Job(source="topic", version="v2")
    await world.send(job.message(Topics("esk")))
    work = publishing(world, job, items)
    running = asyncio.create_task(work.run())
    await eventually(lambda: running.done() or len(published(world)) >= 150, "the rows of the others")
    for _ in range(1000):
        await asyncio.sleep(0)
    assert len(published(world)) <= 300
    world.mend()
    assert (await running).complete
    assert Counter(published(world)) == Counter(item.row_id for item in items)
