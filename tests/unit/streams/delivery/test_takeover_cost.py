"""What a takeover reads does not grow with what was published before it."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from streams.core.codec import encode
from streams.core.messages import Augmented, Row
from streams.core.outcomes import Done
from streams.core.records import Commit, Outgoing, Partition, Record
from streams.core.topics import Topics
from streams.delivery.delivery import Delivery
from streams.delivery.history import History
from streams.delivery.recovery import Share
from streams.delivery.routes import Limits
from streams.pipeline.topology import agents_flow
from tests.unit.streams.delivery.fakes import (
    NOW,
    REPLAY,
    ROWS,
    Broker,
    label,
    make,
    no_sleep,
    record,
    row,
    settle,
    take_over,
)

T = Topics("t")
LIVE, LABELED, AGAIN = Partition(T.rows, 0), Partition(T.labeled, 0), Partition(T.replay, 0)
SPAN = 250
MANY = 3 * SPAN


class Pipeline:
    """Both steps over a broker of lists; ``augmenting`` decides about the second."""

    def __init__(self, rows: int) -> None:
        self.broker = Broker()
        self.augmenting = asyncio.Event()
        self.broker.logs[LIVE] = [
            Outgoing(T.rows, 0, str(n).encode(), encode(row(str(n)))) for n in range(rows)
        ]
        self.generation = 0
        self.committed = {where: Commit(-1) for where in (LIVE, LABELED, AGAIN)}

    async def augment(self, message: Row) -> Any:
        await self.augmenting.wait()
        values = message.model_dump() | {"augment_model": "q", "augmented_at": NOW}
        return Done(Augmented.model_validate(values))

    async def start(self) -> Delivery:
        self.generation += 1
        self.broker.generation = self.generation
        self.broker.read_count.clear()
        delivery = Delivery(
            agents_flow(T, label=label, label_version="v1", augment=self.augment),
            sender=self.broker,
            tail=self.broker,
            topic_ids=self.broker,
            lease=self.broker,
            limits=Limits({"label": 64, "augment": 32}, span=SPAN),
            sleep=no_sleep,
        )
        await take_over(delivery, self.committed, self.generation)
        return delivery

    async def feed(self, delivery: Delivery, *places: Partition) -> None:
        """Hand over what the consumer would read, until there is no more or nobody wants it."""
        while True:
            moved = False
            for where in places:
                start = delivery.owed()[where]
                log = self.broker.logs.get(where, [])[start : start + 200]
                if log and where not in delivery.crowded():
                    delivery.offer_all(
                        [
                            Record(*where, start + n, 0, m.key, m.value, tuple(m.headers))
                            for n, m in enumerate(log)
                        ],
                        self.generation,
                    )
                    moved = True
            for _ in range(20):
                await asyncio.sleep(0)
            if not moved and not (delivery.in_flight - 32 * (not self.augmenting.is_set())):
                return

    def published(self, where: Partition) -> Counter[bytes | None]:
        return Counter(message.key for message in self.broker.logs.get(where, []))


async def test_a_stage_that_stood_still_leaves_no_long_tail() -> None:
    """Rows were labelled while the augmenter was away: the next owner reads none of their labels."""
    pipeline = Pipeline(MANY)
    delivery = await pipeline.start()
    await pipeline.feed(delivery, LIVE, LABELED)
    assert len(pipeline.broker.logs[LABELED]) == MANY
    pipeline.committed = delivery.commits()
    assert pipeline.committed[LABELED].offset == 0
    await delivery.revoked(owner=False, seconds=0.1)
    heir = await pipeline.start()
    assert pipeline.broker.read_count.total() == 0
    pipeline.augmenting.set()
    await pipeline.feed(heir, LIVE, LABELED)
    everything = Counter(str(n).encode() for n in range(MANY))
    assert pipeline.published(LABELED) == everything
    assert pipeline.published(Partition(T.augmented, 0)) == everything


async def test_one_message_that_keeps_the_others_waiting_leaves_no_long_tail() -> None:
    broker, gate = Broker(), asyncio.Event()

    async def first_waits(message: Row) -> Any:
        if message.row_id == "0":
            await gate.wait()
        return await label(message)

    delivery = make(broker, first_waits, Limits({"label": 64}, span=SPAN))
    await take_over(delivery, {ROWS: Commit(-1)}, 1)
    for offset in range(SPAN + 10):
        delivery.offer(record(offset, str(offset)), 1)
        await asyncio.sleep(0)
    while delivery.in_flight > 1:
        await asyncio.sleep(0)
    assert len(broker.rows()) == SPAN - 1
    committed = delivery.commits()
    assert committed[ROWS].offset == 0
    await delivery.revoked(owner=False, seconds=0.1)
    broker.generation = 2
    heir = make(broker)
    await take_over(heir, committed, 2)
    assert broker.read_count.total() == 0
    for offset in range(SPAN + 10):
        heir.offer(record(offset, str(offset)), 2)
        await asyncio.sleep(0)
    await settle(heir)
    assert Counter(broker.rows()) == Counter(str(n) for n in range(SPAN + 10))
    assert heir.counts["known:label"] == SPAN - 1


@pytest.mark.parametrize("rewound", [False, True], ids=["expired", "set-by-a-tool"])
async def test_commits_that_are_lost_are_found_in_the_newest_outputs(rewound: bool) -> None:
    pipeline = Pipeline(MANY)
    pipeline.augmenting.set()
    delivery = await pipeline.start()
    await pipeline.feed(delivery, LIVE, LABELED)
    await delivery.revoked(owner=False, seconds=0.1)
    pipeline.committed = dict.fromkeys(pipeline.committed, Commit(0 if rewound else -1))
    pipeline.broker.logs[LIVE] += [Outgoing(T.rows, 0, b"new", encode(row("new")))]
    heir = await pipeline.start()
    moved = heir.owed()
    # Within the span of the last message that has an output.
    assert MANY - SPAN <= moved[LIVE] <= MANY
    assert MANY - SPAN <= moved[LABELED] <= MANY
    assert pipeline.broker.read_count[T.labeled] < 3 * SPAN + MANY  # for replays, of which there are none
    await pipeline.feed(heir, LIVE, LABELED)
    everything = Counter([str(n).encode() for n in range(MANY)] + [b"new"])
    assert pipeline.published(LABELED) == everything
    assert pipeline.published(Partition(T.augmented, 0)) == everything
    assert heir.commits()[LIVE].offset == MANY + 1


class SlowLookBack(Broker):
    """Looking back in the outputs takes until ``found``."""

    def __init__(self) -> None:
        super().__init__()
        self.found = asyncio.Event()

    async def read_many(self, starts: Any, bounds: Any = None, *reached: Any) -> Any:
        if not reached:
            await self.found.wait()
        async for records in super().read_many(starts, bounds, *reached):
            yield records


async def test_live_rows_do_not_wait_for_replays_whose_commits_are_lost() -> None:
    broker = SlowLookBack()
    broker.found.set()
    first = make(broker)
    await take_over(first, {ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    for offset in range(5):
        first.offer(record(offset, str(offset)), 1)
    await settle(first)
    broker.found.clear()
    broker.generation = 2
    heir = make(broker)
    await heir.assigned(first.commits() | {REPLAY: Commit(-1)}, 2)
    heir.offer(record(5, "5"), 2)
    heir.offer(record(0, "again", topic="replay"), 2)
    await settle(heir)
    assert heir.taking_over() == {REPLAY}
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5"]
    broker.found.set()
    await settle(heir)
    assert heir.taking_over() == set()
    assert sorted(broker.rows()) == ["0", "1", "2", "3", "4", "5", "again"]


async def test_rows_that_come_again_on_a_topic_made_anew_are_known() -> None:
    pipeline = Pipeline(MANY)
    pipeline.augmenting.set()
    delivery = await pipeline.start()
    await pipeline.feed(delivery, LIVE, LABELED)
    await delivery.revoked(owner=False, seconds=0.1)
    # The poller's window is on the new topic: the last ten rows, and new ones.
    broker = pipeline.broker
    broker.incarnations[T.rows] = 1
    broker.logs[LIVE] = broker.logs[LIVE][-10:] + [
        Outgoing(T.rows, 0, str(n).encode(), encode(row(str(n)))) for n in range(MANY, MANY + 10)
    ]
    recent = int((NOW - timedelta(days=3)).timestamp() * 1000)
    for topic in (T.labeled, T.augmented):
        broker.times[Partition(topic, 0)] = [0] * (MANY - 20) + [recent] * 20
    pipeline.committed = delivery.commits() | {LIVE: Commit(-1)}
    heir = await pipeline.start()
    await pipeline.feed(heir, LIVE, LABELED)
    everything = Counter(str(n).encode() for n in range(MANY + 10))
    assert pipeline.published(LABELED) == everything
    assert pipeline.published(Partition(T.augmented, 0)) == everything
    assert heir.counts["known:label"] == 10
    assert heir.commits()[LIVE].offset == 20


async def test_history_is_read_as_far_back_as_a_row_is_old_and_each_message_once() -> None:
    broker, day = Broker(), 24 * 3600
    where = Partition("labeled", 0)
    now = NOW.timestamp()
    broker.logs[where] = [Outgoing("labeled", 0, b"", b"")] * 100
    broker.times[where] = [int((now - (100 - n) * day) * 1000) for n in range(100)]
    history = History(Share({}, {where: 100}), broker, clock=lambda: now)  # type: ignore[arg-type]
    await history.cover(NOW - timedelta(minutes=1))
    assert broker.read_count["labeled"] == 2  # 26 hours, twice
    await history.cover(NOW - timedelta(hours=3))
    assert broker.read_count["labeled"] == 2
    await history.cover(NOW - timedelta(days=10))
    assert broker.read_count["labeled"] == 22
    await history.cover(NOW + timedelta(days=1))  # dated in the future: who knows when it was labelled
    assert broker.read_count["labeled"] == 100
    await history.cover(NOW - timedelta(days=1000))
    assert broker.read_count["labeled"] == 100


async def test_replays_of_a_topic_whose_commits_are_lost_are_published_once() -> None:
    broker = Broker()
    broker.logs[REPLAY] = [Outgoing("replay", 0, str(n).encode(), encode(row(str(n)))) for n in range(30)]
    limits = Limits({"label": 8}, span=SPAN)
    first = make(broker, limits=limits)
    await take_over(first, {ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    for offset in range(20):
        first.offer(record(offset, str(offset), topic="replay"), 1)
    for offset in range(MANY):
        first.offer(record(offset, f"live {offset}"), 1)
        await asyncio.sleep(0)
    await settle(first)
    broker.generation = 2
    heir = make(broker, limits=limits)
    await take_over(heir, first.commits() | {REPLAY: Commit(-1)}, 2)
    for offset in range(heir.owed()[REPLAY], 30):
        heir.offer(record(offset, str(offset), topic="replay"), 2)
    await settle(heir)
    assert max(Counter(broker.rows()).values()) == 1
    assert len(broker.rows()) == MANY + 30
