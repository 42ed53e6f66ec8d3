"""Whatever consumer, model and group do: no row is committed over, and no heir publishes one again.

Owners come one after the other; what a paused one may do beside its heir is played in `tests/faults`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.core.codec import encode
from streams.core.messages import Row
from streams.core.records import Commit, Outgoing
from streams.delivery.routes import Limits
from tests.unit.streams.delivery.fakes import ROWS, Broker, label, make, record, row, take_over
from tests.waiting import PATIENCE

COUNT = 40
_SOON = 0.02

# What may happen: the consumer reads on, reads again or skips; the model answers, in any order; the offsets
# are committed; the partition is taken away and given back, by a stop or a kill, while things go on.
SMALL = st.integers(1, 12)
EVENT = st.one_of(
    st.tuples(st.sampled_from(["read", "again", "skip", "answer"]), SMALL),
    st.tuples(st.just("commit"), st.just(0)),
)
EVENTS = st.lists(EVENT, max_size=8)
SCENES = st.lists(st.tuples(EVENTS, st.sampled_from(["leave", "killed"]), EVENTS), min_size=1, max_size=4)


class Scene:
    """One worker after the other, over one broker."""

    def __init__(self) -> None:
        self.broker = Broker()
        self.committed = Commit(-1)
        self.asked: list[asyncio.Event] = []
        self.at = 0
        self.begun = 0
        self.broker.logs["rows", 0] = [
            Outgoing("rows", 0, str(n).encode(), encode(row(str(n)))) for n in range(COUNT)
        ]

    async def step(self, message: Row) -> Any:
        answered = asyncio.Event()
        self.asked.append(answered)
        await answered.wait()
        return await label(message)

    async def take_over(self) -> None:
        self.begun += 1
        self.broker.generation = self.begun
        self.asked = []
        self.delivery = make(self.broker, self.step, Limits({"label": 3}))
        await take_over(self.delivery, {ROWS: self.committed}, self.begun)
        self.at = max(self.committed.offset, 0)

    async def happen(self, events: list[tuple[str, int]]) -> None:
        for what, number in events:
            if what == "read":
                upto = min(self.at + number, COUNT)
                for offset in range(self.at, upto):
                    self.delivery.offer(record(offset, str(offset)), self.begun)
                self.at = upto
            elif what == "again":
                self.at = max(0, self.at - number)
            elif what == "skip":
                self.at = min(COUNT - 1, self.at + number)
            elif what == "answer":
                for answered in self.asked[-number:]:
                    answered.set()
            elif what == "commit":
                self.commit()
            for _ in range(10):
                await asyncio.sleep(0)

    def commit(self) -> None:
        positions = self.delivery.commits()
        if positions:
            self.committed = positions[ROWS]
        published = set(self.broker.rows())
        first = next((n for n in range(COUNT) if str(n) not in published), COUNT)
        assert self.committed.offset <= first, "a row that is not published was committed over"

    async def end(self, how: str, events: list[tuple[str, int]]) -> None:
        """The partition is taken away while ``events`` happen."""
        leaving = asyncio.create_task(self.delivery.revoked(owner=how == "leave", seconds=_SOON))
        await asyncio.sleep(0)
        await self.happen(events)
        await leaving
        if how == "leave":
            self.commit()
        self.delivery.forget()

    async def finish(self) -> None:
        """Nothing is in the way any more."""
        while len(self.broker.rows()) < COUNT:
            await self.happen([("read", COUNT), ("answer", COUNT)])
        self.commit()
        assert self.committed.offset == COUNT
        assert Counter(self.broker.rows()) == Counter(str(n) for n in range(COUNT))


@given(SCENES)
def test_every_row_is_published_once_and_none_is_committed_over(scenes: list[Any]) -> None:
    async def run() -> None:
        scene = Scene()
        for before, how, during in scenes:
            await scene.take_over()
            await scene.happen(before)
            await scene.end(how, during)
        await scene.take_over()
        await asyncio.wait_for(scene.finish(), PATIENCE)

    asyncio.run(run())
