"""The trainer's loop, over topics and tables that are lists."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from streams.cascade.generation import Generation
from streams.core.cascade import CascadeState, reset_message
from streams.core.codec import encode
from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.messages import Labeled
from streams.core.records import Outgoing, Partition, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.training import trainer as module
from streams.training.trainer import Trainer, empty_report
from streams.training.version_training import VersionTraining
from streams.versions.topic import KnownVersions
from tests.unit.streams.training.test_version_training import World, lesson

TOPICS = Topics("esk")
IDS = {TOPICS.labeled: UUID(int=1), TOPICS.shadow: UUID(int=2)}


class Kafka:
    """Topics as lists, with a lease that may be lost at a message."""

    def __init__(self) -> None:
        self.topics: dict[str, list[Record]] = {}
        self.lost_at: int | None = None
        self.sent = 0

    async def send(self, message: Outgoing) -> int:
        if self.sent == self.lost_at:
            raise LeaseLostError("another is at work")
        self.sent += 1
        return self.append(message)

    def append(self, message: Outgoing) -> int:
        log = self.topics.setdefault(message.topic, [])
        log.append(Record(message.topic, message.partition, len(log), 0, message.key, message.value))
        return len(log) - 1

    async def hold(self, generation: int) -> None:
        return

    async def topic_ids(self, topics: Sequence[str]) -> dict[str, UUID]:
        return {topic: IDS[topic] for topic in topics}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        return (0, len(self.topics.get(topic, [])))

    async def written_many(self, places: Sequence[Partition]) -> dict[Partition, tuple[int, int]]:
        return {place: await self.bounds(*place) for place in places}

    async def offsets_at(self, places: Sequence[Partition], millis: int) -> dict[Partition, int]:
        return dict.fromkeys(places, 0)

    async def read_many(
        self, starts: Mapping[Partition, int], bounds: object = None
    ) -> AsyncIterator[list[Record]]:
        for place, start in starts.items():
            found = [one for one in self.topics.get(place.topic, []) if one.offset >= start]
            for at in range(0, len(found), 150):
                yield found[at : at + 150]

    @property
    def known(self) -> KnownVersions:
        known = KnownVersions()
        for one in self.topics.get(TOPICS.versions, []):
            known.learn(one)
        return known


@pytest.fixture(autouse=True)
def no_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*_: object) -> list[Any]:
        return []

    async def nowhere(*_: object) -> dict[Any, Any]:
        return {}

    for name in ("first_sights", "labels_by_people", "judged_rows"):
        monkeypatch.setattr(module, name, nothing)
    monkeypatch.setattr(module, "first_sights_at", nowhere)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        self.now += 20.0  # each turn saves
        return self.now


def a_trainer(
    kafka: Kafka, clock: Clock, repair: Callable[[VersionTraining], Awaitable[bool]] | None = None
) -> Trainer:
    async def repaired(training: VersionTraining) -> bool:
        return True

    def learned(teach: object, margin: float) -> Generation:
        assert margin == 0.02
        return lesson()

    return Trainer(
        Settings(cascade="on", topic_partitions=1, cascade_margin=0.02),
        TOPICS,
        tail=kafka,  # type: ignore[arg-type]
        ids=kafka,
        sender=kafka,  # type: ignore[arg-type]
        lease=kafka,  # type: ignore[arg-type]
        generation=1,
        client=None,  # type: ignore[arg-type]
        repair=repair or repaired,
        told=empty_report(),
        clock=clock,
        learn=learned,
    )


def publish(kafka: Kafka, world: World, count: int, label: str = "") -> None:
    for text, said in world.texts(count):
        at = datetime.fromtimestamp(1_000 + len(kafka.topics.get(TOPICS.labeled, [])), UTC)
        row = {"row_id": text, "text": text, "created_at": at, "polled_at": at, "labeled_at": at}
        message = Labeled(**row, label=label or said, label_version="v", model="m")
        kafka.append(Outgoing(TOPICS.labeled, 0, b"", encode(message)))


async def work(one: Trainer, until: Callable[[], bool]) -> None:
    ending = asyncio.Event()
    running = asyncio.create_task(one.run(ending))
    while not until() and not running.done():
        await asyncio.sleep(0.01)
    ending.set()
    await running


def state(kafka: Kafka) -> CascadeState:
    return kafka.known.cascade_of("v") or CascadeState(version="v")


async def test_wherever_a_trainer_loses_its_lease_each_label_counts_once() -> None:
    wanted = Kafka()
    publish(wanted, World(), 1_400)
    await work(a_trainer(wanted, Clock()), saved(wanted))
    whole = state(wanted)
    assert whole.state == "certified"
    assert wanted.sent >= 3
    for lost_at in (1, 2):  # the state, and the positions
        kafka, clock = Kafka(), Clock()
        publish(kafka, World(), 1_400)
        kafka.lost_at = lost_at
        with contextlib.suppress(LeaseLostError):
            await work(a_trainer(kafka, clock), saved(kafka))
        kafka.lost_at = None
        before = state(kafka)
        await work(a_trainer(kafka, clock), saved(kafka))
        after, known = state(kafka), kafka.known
        if before.generation:  # what was only in memory is read from the tables, of which there are none
            assert after.checkpoint["current"]["llm"] == whole.checkpoint["current"]["llm"]
        assert after.checkpoint["offsets"] == whole.checkpoint["offsets"]
        assert known.cascades.unnamed == []
        if after.proxy is not None:
            assert known.proxy_of("v") == (after.generation, lesson().proxy.pack())


def saved(kafka: Kafka) -> Callable[[], bool]:
    """Whether all that is there was read."""
    end = {0: len(kafka.topics[TOPICS.labeled])}
    return lambda: kafka.known.cascades.positions.get(str(IDS[TOPICS.labeled])) == end


async def test_a_proxy_that_kafka_refused_at_first_is_sent_before_the_state_that_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kafka, clock = Kafka(), Clock()
    publish(kafka, World(), 1_400)
    send = kafka.send
    refused: list[Outgoing] = []

    async def refuses(message: Outgoing) -> int:
        if message.key is not None and message.key.startswith(b"proxy/") and not refused:
            refused.append(message)
            raise UnavailableError("no broker")
        return await send(message)

    monkeypatch.setattr(kafka, "send", refuses)
    await work(a_trainer(kafka, clock), saved(kafka))
    assert len(refused) == 1
    assert state(kafka).state == "certified"
    assert kafka.known.proxy_of("v") == (1, lesson().proxy.pack())


async def test_a_wish_to_begin_anew_is_fulfilled_and_the_old_proxy_is_forgotten() -> None:
    kafka, clock = Kafka(), Clock()
    publish(kafka, World(), 1_400)
    await work(a_trainer(kafka, clock), lambda: state(kafka).state == "certified")
    assert kafka.known.proxy_of("v") is not None
    kafka.append(reset_message(TOPICS, "v", "now"))
    assert state(kafka).state == "learning"
    await work(a_trainer(kafka, clock), lambda: state(kafka).reset == "now")
    found = state(kafka)
    assert (found.state, found.generation, found.proxy) == ("learning", 1, None)
    assert kafka.topics[TOPICS.versions][-1].key is not None
    assert kafka.known.cascades.unnamed == []
    values = {one.key: one.value for one in kafka.topics[TOPICS.versions]}
    assert all(value is None for key, value in values.items() if key and key.startswith(b"proxy/"))


async def test_a_revocation_is_published_and_repaired_once() -> None:
    kafka, clock, world = Kafka(), Clock(), World()
    publish(kafka, world, 1_400)
    await work(a_trainer(kafka, clock), lambda: state(kafka).state == "certified")
    publish(kafka, world, 6_000, label="счёт")
    asked: list[str] = []

    async def repair(training: VersionTraining) -> bool:
        asked.append(training.version)
        return len(asked) > 2

    await work(
        a_trainer(kafka, clock, repair), lambda: len(asked) > 2 and len(kafka.known.cascades.positions) > 0
    )
    assert state(kafka).revoked_at is not None
    assert len(asked) == 3
    assert state(kafka).checkpoint["repaired"] is True
