"""What retention took before the sink had read it is noted before anything behind it is committed."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import orjson
import pytest

from connectors.clickhouse.sink import batcher as batchers
from connectors.clickhouse.sink.batcher import Batcher
from connectors.clickhouse.sink.lost_messages import CutError, LostMessages
from streams.core.errors import LeaseLostError, UnavailableError
from streams.core.records import Commit, Record
from streams.core.times import micros_of
from tests.unit.connectors.clickhouse.sink.fakes import (
    L0,
    L1,
    START,
    TOPICS,
    FakeInput,
    FakeKafka,
    FakeLease,
    labeled,
)

IDS = {TOPICS.labeled: UUID(int=7)}
SEEN = orjson.dumps({"reached": 77}).decode()


class Scene:
    def __init__(self, fails: int = 0) -> None:
        self.kafka, self.lease, self.fails = FakeKafka(), FakeLease(), fails
        self.told: list[tuple[object, ...]] = []
        self.lost = LostMessages(self.kafka, self.lease, self.report)  # type: ignore[arg-type]
        for number in range(20):
            self.kafka.publish(labeled(number), TOPICS.labeled)

    async def report(self, *told: object) -> None:
        if self.fails:
            self.fails -= 1
            raise UnavailableError("Kafka does not answer")
        self.told.append(told)

    def records(self, *offsets: int) -> list[Record]:
        return [self.kafka.logs[L0][offset] for offset in offsets]


def time_of(number: int) -> int:
    return min(micros_of(START + timedelta(seconds=number, microseconds=123456)), 1_772_366_400_000_000)


async def test_a_partition_without_a_leader_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.clickhouse.sink.lost_messages._PATIENCE_SECONDS", 0.05)
    scene = Scene()
    scene.kafka.silent = {L1}
    scene.kafka.first = {L0: 9}
    assert await scene.lost.ends({L0: 21, L1: 3}, 1) == {L0: 20}
    await scene.lost.begin({L0: Commit(4, SEEN), L1: Commit(3)}, IDS, 1)
    scene.kafka.first = {L0: 12}
    await scene.lost.look()
    assert [told[2:4] for told in scene.told] == [(4, 9), (9, 12)]
    scene.kafka.mend()
    scene.kafka.first = {L1: 5}
    await scene.lost.check({L1: [scene.records(0)[0]._replace(partition=1, offset=6)]})
    assert scene.told[-1][:1] + scene.told[-1][2:4] == (L1, 3, 5)


async def test_what_is_gone_is_told_at_the_beginning() -> None:
    scene = Scene()
    scene.kafka.first = {L0: 9, L1: 3}
    await scene.lost.begin({L0: Commit(4, SEEN), L1: Commit(3)}, IDS, 1)
    assert scene.told == [(L0, str(IDS[TOPICS.labeled]), 4, 9, 77, 1)]
    await scene.lost.check({L0: scene.records(9, 10)})
    assert len(scene.told) == 1
    assert scene.lost.reached(L0) == time_of(10)
    assert scene.lost.reached(L1) is None


@pytest.mark.parametrize("fails", [0, 2])
async def test_what_is_gone_between_two_messages_is_told_with_the_time_before(fails: int) -> None:
    scene = Scene(fails)
    await scene.lost.begin({L0: Commit(0)}, IDS, 1)
    scene.kafka.first = {L0: 8}
    await scene.lost.check({L0: scene.records(0, 1, 2, 8, 9)})
    assert [told[2:] for told in scene.told] == [(3, 8, time_of(2), 1)]
    scene.kafka.first = {L0: 12}
    await scene.lost.check({L0: scene.records(14, 15)})  # the consumer jumped between two fetches
    assert [told[2:] for told in scene.told][1:] == [(10, 12, time_of(9), 1)]


async def test_offsets_that_never_held_a_message_are_no_loss() -> None:
    scene = Scene()
    await scene.lost.begin({L0: Commit(0)}, IDS, 1)
    await scene.lost.check({L0: scene.records(0, 2, 5)})
    assert not scene.told


async def test_messages_that_come_again_are_no_loss() -> None:
    scene = Scene()
    await scene.lost.begin({L0: Commit(0)}, IDS, 1)
    await scene.lost.check({L0: scene.records(0, 1, 2)})
    scene.kafka.first = {L0: 2}
    await scene.lost.check({L0: scene.records(1, 2, 3)})
    assert not scene.told


async def test_all_of_it_may_be_gone_and_is_told_once() -> None:
    scene = Scene()
    await scene.lost.begin({L0: Commit(0)}, IDS, 1)
    scene.kafka.first = {L0: 20}
    for _ in range(2):
        await scene.lost.look()
    assert [told[2:] for told in scene.told] == [(0, 20, None, 1)]
    assert scene.lost.passed == {L0: 20}
    scene.kafka.publish(labeled(20), TOPICS.labeled)
    await scene.lost.check({L0: scene.records(20)})
    assert not scene.lost.passed


async def test_it_is_not_told_by_one_who_no_longer_owns_the_partition() -> None:
    scene = Scene()
    scene.kafka.first = {L0: 20}
    scene.lease.generation = 2
    with pytest.raises(LeaseLostError):
        await scene.lost.begin({L0: Commit(0)}, IDS, 1)
    assert not scene.told


async def test_one_who_waits_for_messages_looks_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batchers, "IDLE_SECONDS", 0.01)
    intake = Batcher(FakeInput(FakeKafka(), [L0], {}))
    intake.start()
    assert await intake.batch() == []
    await intake.stop()


async def test_a_log_that_lost_its_end_is_told_apart_from_a_leader_that_is_none() -> None:
    scene = Scene()
    assert await scene.lost.ends({L0: 20}, 1) == {}
    scene.kafka.cut(L0, 12)
    assert await scene.lost.ends({L0: 20, L1: 0}, 1) == {L0: 12}
    scene.kafka.stale = {L0: 5}
    assert await scene.lost.ends({L0: 12}, 1) == {}


async def test_messages_that_come_again_of_a_log_that_lost_its_end_are_refused() -> None:
    scene = Scene()
    await scene.lost.begin({L0: Commit(20)}, IDS, 1)
    await scene.lost.look()
    await scene.lost.refuse_cut({L0: scene.records(3, 4)})
    scene.kafka.cut(L0, 12)
    with pytest.raises(CutError):
        await scene.lost.look()
    with pytest.raises(CutError):
        await scene.lost.refuse_cut({L0: scene.records(3, 4)})
