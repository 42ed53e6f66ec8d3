"""An output partition that cannot be written holds back its own input, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from streams.core.codec import encode
from streams.core.messages import Labeled, Row
from streams.core.outcomes import Done, Reject, Retry
from streams.core.records import Commit, Outage, Outgoing, Partition, Record
from streams.delivery.delivery import Delivery
from streams.delivery.routes import Limits
from tests.unit.streams.delivery.fakes import REPLAY, ROWS, Broker, label, make, record, row
from tests.waiting import PATIENCE

NUMBERS = range(8)
PLACES = 64


class Leaderless(Broker):
    """As the producer behaves: a send waits for its partition's leader, and the outage is known soon."""

    def __init__(self) -> None:
        super().__init__()
        self.back: dict[Partition, asyncio.Event] = {}

    def lose(self, partition: Partition) -> None:
        self.back[partition] = asyncio.Event()

    def find(self, partition: Partition) -> None:
        self.outages.pop(partition, None)
        self.back.pop(partition).set()

    async def send(self, message: Outgoing) -> int:
        where = Partition(message.topic, message.partition)
        if (back := self.back.get(where)) is not None:
            asyncio.get_running_loop().call_later(
                0.01, lambda: where in self.back and self.outages.setdefault(where, Outage(0.0, "no leader"))
            )
            await back.wait()
        return await super().send(message)

    def count(self, topic: str = "labeled") -> Counter[int]:
        return Counter({number: len(self.logs.get((topic, number), [])) for number in NUMBERS})


def row_at(number: int, offset: int) -> Record:
    return Record("rows", number, offset, 0, b"", encode(row(f"{number}-{offset}")))


async def feed(delivery: Delivery, end: int) -> None:
    """Offer what is owed up to ``end``, as far as each partition takes it, until nothing moves."""
    seen: tuple[int, ...] = ()
    calm = 0
    while calm < 30:
        for partition, start in delivery.owed().items():
            if partition not in delivery.crowded():
                delivery.offer_all(
                    [row_at(partition.partition, offset) for offset in range(start, min(start + 50, end))], 1
                )
        await asyncio.sleep(0.002)
        now = (delivery.counts.total(), *delivery.owed().values())
        calm, seen = (calm + 1 if now == seen else 0), now


async def owner_of_all(broker: Broker, limits: Limits | None = None) -> Delivery:
    delivery = make(broker, limits=limits or Limits({"label": PLACES}))
    await delivery.assigned({Partition("rows", number): Commit(-1) for number in NUMBERS}, 1)
    return delivery


async def test_the_others_go_on_and_it_goes_on_by_itself() -> None:
    broker, stuck = Leaderless(), Partition("labeled", 1)
    delivery = await owner_of_all(broker)
    await feed(delivery, 50)
    broker.lose(stuck)
    await feed(delivery, 1000)
    assert broker.count() == Counter({number: 50 if number == 1 else 1000 for number in NUMBERS})
    waits = delivery.in_flight
    assert 0 < waits <= 2 * PLACES + 32
    await feed(delivery, 1200)
    assert delivery.in_flight == waits  # no more is begun for it
    assert {one.offset for partition, one in delivery.commits().items() if partition.partition != 1} == {1200}
    assert delivery.commits()[Partition("rows", 1)].offset == 50
    broker.find(stuck)
    await feed(delivery, 1200)
    assert broker.count() == Counter(dict.fromkeys(NUMBERS, 1200))
    for number in NUMBERS:
        keys = [message.key for message in broker.logs["labeled", number]]
        assert len(set(keys)) == len(keys)


async def test_what_waits_has_no_place_with_the_model() -> None:
    broker = Leaderless()
    broker.lose(Partition("labeled", 1))
    asking, most = 0, 0

    async def step(message: Row) -> Done[Labeled] | Reject | Retry:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        await asyncio.sleep(0)
        asking -= 1
        return await label(message)

    delivery = make(broker, step, Limits({"label": 2}))
    await delivery.assigned({Partition("rows", number): Commit(-1) for number in NUMBERS}, 1)
    await feed(delivery, 200)
    assert broker.count()[0] == 200
    assert most == 2


async def test_a_dead_letter_that_waits_holds_back_no_result() -> None:
    broker = Leaderless()
    broker.lose(Partition("dead", 0))

    async def step(message: Row) -> Done[Labeled] | Reject | Retry:
        if message.row_id.endswith("7"):
            return Reject("bad", "no label")
        return await label(message)

    delivery = make(broker, step, Limits({"label": 4}))
    await delivery.assigned({ROWS: Commit(-1)}, 1)
    await feed(delivery, 500)
    assert broker.count()[0] == 450
    assert delivery.commits()[ROWS].offset == 7
    broker.find(Partition("dead", 0))
    await feed(delivery, 500)
    assert broker.count("dead")[0] == 50
    assert delivery.commits()[ROWS].offset == 500


async def test_the_twin_of_a_row_that_waits_takes_no_place() -> None:
    broker = Leaderless()
    broker.lose(Partition("labeled", 0))
    delivery = make(broker, limits=Limits({"label": 1}))
    await delivery.assigned({ROWS: Commit(-1), REPLAY: Commit(-1), Partition("replay", 1): Commit(-1)}, 1)
    delivery.offer(record(0, "a"), 1)
    delivery.offer(record(0, "a", "replay"), 1)
    for offset in range(20):
        other = record(offset, f"b{offset}", "replay")
        delivery.offer(other._replace(partition=1), 1)
    while broker.count()[1] < 20:
        await asyncio.sleep(0.001)
    broker.find(Partition("labeled", 0))
    while delivery.in_flight:
        await asyncio.sleep(0.001)
    assert broker.rows() == ["a"]


@pytest.mark.parametrize("handed", [True, False])
async def test_leaving_does_not_wait_for_a_leader(handed: bool) -> None:
    """What waits for one is to be taken back: the caller fences."""
    broker, stuck = Leaderless(), Partition("labeled", 1)
    delivery = await owner_of_all(broker)
    if handed:
        broker.lose(stuck)
    await feed(delivery, 100)
    leaving = asyncio.create_task(delivery.revoked(owner=True, seconds=3600.0))
    done, _ = await asyncio.wait([leaving], timeout=PATIENCE)
    assert done
    assert await leaving is not handed
    assert delivery.commits()[Partition("rows", 0)].offset == 100
