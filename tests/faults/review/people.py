"""The reviewers: two processes of the API, each with two desks, that answer rows of all three queues."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from streams.core.errors import LabelstreamError, RetryableError, UnavailableError
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import AUDIT, DISAGREEMENTS, NO_LABEL, TAKEN_BACK, UNSURE, Queue
from streams.quality.audit import asks_second, draw_number, salt_of
from streams.review.leases import person_of
from streams.review.queue import ReviewQueue
from streams.runtime.result_tables import ResultTables
from tests.waiting import Watch

T = TypeVar("T")

DESKS = 4
PROCESSES = 2


@dataclass(frozen=True)
class Asked:
    """A row and who was asked about it, by which queue."""

    row_id: str
    person: str
    queue: str


class ApiProcess:
    """A process of the API, which can die in the middle of its calls."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue = ReviewQueue(settings, ResultTables(settings))
        self._calls: set[asyncio.Task[object]] = set()

    async def ask(self, work: Callable[[ReviewQueue], Awaitable[T]]) -> T:
        """The answer; UnavailableError if the process dies before."""

        async def call() -> T:
            return await work(self._queue)

        task = asyncio.create_task(call())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        await asyncio.wait([task])
        if task.cancelled():
            raise UnavailableError("the process died", setting="API_PORT")
        return task.result()

    async def die(self) -> int:
        """A new one takes its place; returns how many calls were cut: some, if any begin within a second."""
        for _ in range(100):
            if self._calls:
                break
            await asyncio.sleep(0.01)
        former, self._queue = self._queue, ReviewQueue(self._settings, ResultTables(self._settings))
        cut = list(self._calls)
        for task in cut:
            task.cancel()
        await former.close()
        return len(cut)

    async def close(self) -> None:
        await self._queue.close()


class People:
    """Reviewers who label, correct, take back and settle until each row is answered by as many as are asked.

    ``said``: what was confirmed about each row, person and queue, in order: a label, `no-label` or
    `taken-back`; None where nobody knows.
    """

    def __init__(
        self, settings: Settings, rows: Sequence[Place], chance: random.Random, rest_seconds: float
    ) -> None:
        """``rows``: all of them. ``rest_seconds``: mean pause of a desk between two rows."""
        self.said: dict[Asked, list[str | None]] = {}
        self.done: Counter[str] = Counter()
        self.processes = [ApiProcess(settings) for _ in range(PROCESSES)]
        salt, self.share = salt_of(settings), settings.review_audit_share
        self.drawn = {place.row_id for place in rows if draw_number(salt, place) < self.share}
        self.for_two = {place.row_id for place in rows if asks_second(settings, place)}
        self._rows = len(rows)
        self._chance = chance
        self._rest_seconds = rest_seconds
        # While the tables are those of 0.1.0: half of the rows, and no audit.
        self.only_unsure = False

    async def work(self) -> None:
        """All desks at once, to the end."""
        try:
            await asyncio.gather(
                *(
                    self._desk(self.processes[number % PROCESSES], f"person{number}/desk")
                    for number in range(DESKS)
                )
            )
        finally:
            for process in self.processes:
                await process.close()

    async def _desk(self, process: ApiProcess, owner: str) -> None:
        labels = [one.name for one in await self._patiently(process, lambda queue: queue.choices())]
        watch = Watch("every row is answered")
        while True:
            watch.look(self.done.total())
            found = 0
            for queue in self._open_queues():
                found += await self._turn(process, owner, queue, labels)
            if not found:
                if not self.only_unsure and await self._finished(process):
                    return
                await asyncio.sleep(0.2)

    def _open_queues(self) -> Sequence[Queue]:
        answered = {one.row_id for one in self.said}
        if self.only_unsure:
            return (UNSURE,) if len(answered) < self._rows // 2 else ()
        return AUDIT, UNSURE, DISAGREEMENTS

    async def _finished(self, process: ApiProcess) -> bool:
        touched = {one.row_id for one in self.said}
        if len(touched | self.drawn) < self._rows:
            return False
        try:
            counts = await process.ask(lambda queue: queue.counts())
        except RetryableError:
            return False
        settled = self.done["settled"] or not counts.disagreements
        return counts.audit == 0 and bool(settled)

    async def _turn(self, process: ApiProcess, owner: str, queue: Queue, labels: Sequence[str]) -> int:
        """Answer some rows of a queue, and give back those that were not answered."""
        rows = await self._patiently(process, lambda desk: desk.claim(owner, 5, queue))
        for row in rows:
            place = row.place
            await asyncio.sleep(self._chance.uniform(0.0, 2 * self._rest_seconds))
            # Label; then perhaps take back; then perhaps label again, which is a correction.
            if self._chance.random() < 0.2:
                await self._answer(process, owner, place, queue)
                continue
            done = await self._label(process, owner, place, queue, self._chance.choice(labels))
            if done and self._chance.random() < 0.5:
                done = await self._take_back(process, owner, place, queue)
                if done and self._chance.random() < 0.8:
                    await self._label(process, owner, place, queue, self._chance.choice(labels))
        if rows:
            await self._patiently(process, lambda desk: desk.release(owner))
        return len(rows)

    async def _label(self, process: ApiProcess, owner: str, place: Place, queue: Queue, label: str) -> bool:
        done = await self._confirmed(
            process, owner, place, queue, lambda desk: desk.label(owner, place, label, queue), label
        )
        self.done["labelled"] += done
        self.done["settled"] += done and queue == DISAGREEMENTS
        return done

    async def _take_back(self, process: ApiProcess, owner: str, place: Place, queue: Queue) -> bool:
        done = await self._confirmed(
            process, owner, place, queue, lambda desk: desk.undo(owner, place, queue), TAKEN_BACK
        )
        self.done["taken back"] += done
        return done

    async def _answer(self, process: ApiProcess, owner: str, place: Place, queue: Queue) -> None:
        """Answer without a label; some take it back."""
        done = await self._confirmed(
            process, owner, place, queue, lambda desk: desk.answer(owner, place, NO_LABEL, queue), NO_LABEL
        )
        self.done["answered without a label"] += done
        if done and self._chance.random() < 0.3:
            await self._take_back(process, owner, place, queue)

    async def _confirmed(
        self,
        process: ApiProcess,
        owner: str,
        place: Place,
        queue: Queue,
        work: Callable[[ReviewQueue], Awaitable[object]],
        given: str,
    ) -> bool:
        """Ask until it is confirmed or refused; False where it was refused. ``given``: what is said by it."""
        said = self.said.setdefault(Asked(place.row_id, person_of(owner), queue), [])
        while True:
            said.append(None)  # it may be published, and never confirmed
            try:
                await process.ask(work)
            except RetryableError:
                self.done["repeated"] += 1
                await asyncio.sleep(0.3)
            except LabelstreamError:
                self.done["refused"] += 1
                if len(said) == 1 or said[-2] is not None:
                    said.pop()  # nothing was done
                return False
            else:
                said[-1] = given
                return True

    async def _patiently(self, process: ApiProcess, work: Callable[[ReviewQueue], Awaitable[T]]) -> T:
        """The answer, asked again while a part is away."""
        while True:
            try:
                return await process.ask(work)
            except RetryableError:
                await asyncio.sleep(0.3)
