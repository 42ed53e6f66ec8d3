"""The review queues: reviewers lease drawn rows, the least confident labels, or disagreements, and answer.

A human label is published on the labelled topic like any other, as version `human`, and stored from there. An
answer without a label is inserted into its table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Literal

import structlog

from agents.taxonomy import Taxonomy, load_taxonomy
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import write_answers
from connectors.clickhouse.queries.review import (
    current_of,
    frequent_labels,
    review_counts,
)
from streams.core.errors import RefusedError
from streams.core.label_version import HUMAN
from streams.core.messages import HumanLabel, Labeled
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import (
    AUDIT,
    DISAGREEMENTS,
    SEARCH,
    TAKEN_BACK,
    UNSURE,
    Answer,
    Choice,
    DrawnBy,
    GoldLabel,
    Queue,
    ReviewAnswer,
    ReviewCounts,
    ReviewRow,
    item_key,
)
from streams.privacy.door import REASON, Door, refuse_unmasked
from streams.quality.gold import gold_labels
from streams.review.answers import answer_of, is_erased, label_of, taken_back
from streams.review.board import AuditBoard, Given
from streams.review.leases import decision_message, lease_message, person_of
from streams.review.own import OwnRow, OwnRows
from streams.review.topic import _Wire
from streams.review.unsure import UnsureRows
from streams.runtime.erasures import KnownErasures
from streams.runtime.local_stack import with_local_stack
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

MOST_HELD = 20
# Queries over all rows are shared by all reviewers.
_COUNTS_SECONDS, _OFTEN_SECONDS = 10.0, 300.0
_ROUNDS = 6


class ReviewQueue:
    """Implements `streams.ports.review.ReviewDesk`."""

    def __init__(self, settings: Settings, tables: ResultTables, door: Door | None = None) -> None:
        """``door``: what masks rows that were stored before masking was switched on.

        Raises:
            ConfigurationError: rows are to be masked, and there is no door.
        """
        refuse_unmasked(settings, door)
        self._settings = settings
        self._tables = tables
        self._door = door
        self._board = AuditBoard(settings, tables)
        self._wire: _Wire | None = None
        self._starting = asyncio.Lock()
        self._claiming = asyncio.Lock()
        self._unsure = UnsureRows(settings, tables)
        self._often: tuple[float, list[str]] = (float("-inf"), [])
        self._counting = asyncio.Lock()
        self._counts: tuple[float, ReviewCounts] | None = None
        self._taxonomy: Taxonomy | None = None
        # Rows that were handed out here, and their answers, which reach the tables later.
        self._own = OwnRows()
        self._erasures = KnownErasures(tables)

    async def choices(self) -> Sequence[Choice]:
        taxonomy = await self._labels()
        if time.monotonic() - self._often[0] > _OFTEN_SECONDS:
            self._often = (time.monotonic(), await self._tables.ask(frequent_labels))
        rank = {label: number for number, label in enumerate(self._often[1])}
        domains = sorted(taxonomy.domains, key=lambda one: rank.get(one.name, len(rank)))
        return [Choice(one.name, one.title) for one in domains]

    async def claim(self, owner: str, want: int, queue: Queue = UNSURE) -> Sequence[ReviewRow]:
        wire = await self._wired()
        want = min(want, MOST_HELD)
        current, gone = dict[Place, Labeled](), set[Place]()
        # One request at a time here. If another process was faster, the next rows are requested.
        async with self._claiming:
            for _ in range(_ROUNDS):
                free = await self._free(wire, owner, want, queue, gone)
                # The candidates are some seconds old: nothing may be written of a row erased since.
                new = [place for place, _ in free if place not in current]
                current |= await self._there(new, queue)
                gone |= {place for place in new if place not in current}
                asked = [
                    (place, most)
                    for place, most in free
                    if place in current and not self._held(wire, owner, place, queue)
                ]
                if asked:
                    await wire.write(
                        *(
                            lease_message(wire.topics, item_key(place, queue), owner, most)
                            for place, most in asked
                        )
                    )
                elif gone.isdisjoint(new):
                    break
        got = [place for place, _ in free if place in current and self._held(wire, owner, place, queue)]
        wire.reviews.forget_ended(time.time())
        for place in got:
            held = self._own.get(owner, place, queue) or OwnRow(current[place], None, None)
            probability = None if queue == UNSURE else await self._board.probability(place)
            self._own.keep(owner, place, queue, held._replace(probability=probability))
        return [await self._shown(current[place], queue) for place in got]

    async def label(self, owner: str, place: Place, label: str, queue: DrawnBy = UNSURE) -> None:
        if label not in (await self._labels()).names:
            raise RefusedError(f"{label} is no label of the taxonomy", reason="no-label")
        own = await self._asked(owner, place, queue, label)
        if own is None:
            return
        await self._refuse_erased(own.was)
        own = await self._masked(own)
        wire = await self._wired()
        message = label_of(own.was, person_of(owner), label, queue, own.probability)
        # First to the labelled topic: after a crash in between, the row is offered again and no label is
        # lost.
        await wire.publish(message, self._settings.topic_partitions)
        self._own.keep(owner, place, queue, own._replace(said=message))
        await self._decided(owner, place, queue, "label", label)

    async def answer(self, owner: str, place: Place, answer: Answer, queue: DrawnBy = UNSURE) -> None:
        own = await self._asked(owner, place, queue, answer)
        if own is None:
            return
        await self._refuse_erased(own.was)
        own = await self._masked(own)
        if isinstance(own.said, HumanLabel):
            # The answer is no label, so the former one would stand beside it.
            own = await self._taken_back(owner, place, queue, own, own.said)
        said = await self._store(owner, own, queue, answer, after=own.was.labeled_at)
        self._own.keep(owner, place, queue, own._replace(said=said))
        await self._decided(owner, place, queue, "answer", answer)

    async def skip(self, owner: str, place: Place, queue: Queue = UNSURE) -> None:
        wire = await self._wired()
        own = self._own.get(owner, place, queue)
        await self._refuse_erased(own.was if own is not None else await self._current(place))
        decision = decision_message(wire.topics, item_key(place, queue), owner, "skip")
        await wire.write(decision, learn=False)

    async def undo(self, owner: str, place: Place, queue: DrawnBy = UNSURE) -> ReviewRow:
        wire = await self._wired()
        own = self._own.get(owner, place, queue)
        if own is None or own.said is None:
            raise RefusedError("there is nothing of yours to take back", reason="conflict")
        await self._refuse_erased(own.was)
        if queue != SEARCH:
            # First: were the answer taken back and this not told, nobody would be asked about the row again.
            await wire.write(decision_message(wire.topics, item_key(place, queue), owner, "undo"))
        if isinstance(own.said, HumanLabel):
            own = await self._taken_back(owner, place, queue, own, own.said)
        else:
            stored = await self._store(owner, own, queue, TAKEN_BACK, after=own.said.answered_at)
            own = own.after(stored.answered_at)
        self._own.keep(owner, place, queue, own._replace(said=None))
        return await self._shown(own.was, queue)

    async def release(self, owner: str) -> None:
        wire = await self._wired()
        held = [item for item, lease in wire.reviews.leases.items() if lease.owner == owner]
        if held:
            await wire.write(*(decision_message(wire.topics, item, owner, "release") for item in held))

    async def counts(self) -> ReviewCounts:
        async with self._counting:
            if self._counts is None or time.monotonic() - self._counts[0] > _COUNTS_SECONDS:
                self._counts = (time.monotonic(), await self._tables.ask(review_counts))
            found = self._counts[1]
        audit, disagreements = await self._board.waiting()
        state = await self._board.state()
        return replace(
            found, audit=audit, disagreements=disagreements, kappa=state.kappa, doubled=state.doubled
        )

    async def gold(self) -> AsyncIterator[GoldLabel]:
        async for page in self._tables.stream(gold_labels):
            yield page

    async def close(self) -> None:
        """Close the connections."""
        await self._board.close()
        if self._wire is not None:
            await self._wire.stop()

    async def _asked(self, owner: str, place: Place, queue: DrawnBy, given: str) -> OwnRow | None:
        """The row at the desk, if it may be answered now; None if ``given`` is its answer already."""
        if queue == SEARCH:
            return await self._found(owner, place, given)
        wire = await self._wired()
        own = self._own.get(owner, place, queue)
        if own is not None and own.given == given:
            return None  # a repeated request
        held = self._held(wire, owner, place, queue)
        if not held or self._own.answered(owner, place, queue):
            raise RefusedError("the row is not yours, or no longer", reason="conflict")
        if own is None:
            probability = None if queue == UNSURE else await self._board.probability(place)
            own = OwnRow(await self._current(place), None, probability)
        return own

    async def _there(self, places: Sequence[Place], queue: Queue) -> dict[Place, Labeled]:
        """Those of the rows that the tables have and nobody erased."""
        if not places:
            return {}

        async def look(client: ClickHouseClient, settings: Settings) -> dict[Place, Labeled]:
            return await current_of(client, settings, places, by_models=queue == UNSURE)

        found, erased = await self._tables.ask(look), await self._erasures.now()
        return {place: row for place, row in found.items() if not is_erased(row, erased)}

    async def _refuse_erased(self, row: Labeled) -> None:
        """Before anything is written of ``row``, as it is stored: its plain ids may be erased.

        Raises:
            RefusedError: reason `not-found`. Whoever has the row before them may still have it.
        """
        if is_erased(row, await self._erasures.now()):
            raise RefusedError("the row was erased", reason="not-found")

    async def _masked(self, own: OwnRow) -> OwnRow:
        """The row as it may be published.

        Raises:
            RefusedError: it cannot be masked; reason `cannot-mask`.
        """
        if self._door is None:
            return own
        (safe,) = await self._door.rows([own.was], from_source=False)
        if not isinstance(safe, Labeled):
            raise RefusedError("the row cannot be masked", reason=REASON)
        return own._replace(was=safe)

    async def _found(self, owner: str, place: Place, given: str) -> OwnRow | None:
        """A row that the reviewer found by search; nobody else need leave it. Else as `_asked`."""
        own = self._own.get(owner, place, SEARCH)
        now = await self._current(place)
        if own is None:
            return OwnRow(now, None, None)
        latest = max(now.labeled_at, own.said_at or own.was.labeled_at)
        if own.given == given and latest == own.said_at:
            return None  # a repeated request
        return own.after(latest)

    async def _taken_back(
        self, owner: str, place: Place, queue: DrawnBy, own: OwnRow, said: HumanLabel
    ) -> OwnRow:
        """Publish the label that stands without ``said``."""
        person = person_of(owner)
        # Others may have answered before or since, and the same person in another queue.
        other = await self._board.others_label(place, person, queue)
        if other is None and own.was.label_version == HUMAN:
            # It was a person's when the row was handed out, and is nobody's now.
            other = await self._board.models_label(place)
        back = taken_back(own.was, said, person, queue, other)
        await (await self._wired()).publish(back, self._settings.topic_partitions)
        return own.after(back.labeled_at)

    async def _decided(
        self, owner: str, place: Place, queue: DrawnBy, what: Literal["label", "answer"], given: str
    ) -> None:
        """Tell the other processes of an answer. Rows that were found by search are in no queue."""
        if queue != SEARCH:
            wire = await self._wired()
            decision = decision_message(wire.topics, item_key(place, queue), owner, what, given)
            await wire.write(decision, learn=False)

    async def _store(
        self, owner: str, own: OwnRow, queue: DrawnBy, answer: str, *, after: datetime
    ) -> ReviewAnswer:
        """Insert an answer without a label."""
        said = answer_of(own.was, person_of(owner), answer, queue, own.probability, after=after)
        await self._tables.ask(lambda client, settings: write_answers(client, settings, [said]))
        return said

    async def _shown(self, row: Labeled, queue: DrawnBy) -> ReviewRow:
        """What the reviewer sees: of a row of the audit nothing that others or the model answered."""
        place = Place(row.created_at, row.row_id)
        if queue in (UNSURE, SEARCH):
            return ReviewRow(place, row.text, row)
        answers = await self._board.answers(place) if queue == DISAGREEMENTS else ()
        return ReviewRow(place, row.text, None, answers)

    def _held(self, wire: _Wire, owner: str, place: Place, queue: Queue) -> bool:
        return wire.reviews.holds(item_key(place, queue), owner, time.time())

    async def _free(
        self, wire: _Wire, owner: str, want: int, queue: Queue, gone: Collection[Place]
    ) -> list[tuple[Place, int]]:
        """Rows that may be requested, but for those that are ``gone``, in the queue's order, and how many
        people are asked about each.
        """

        def free(places: Iterable[tuple[Place, int]]) -> list[tuple[Place, int]]:
            now = time.time()
            found = (
                (place, most)
                for place, most in places
                if place not in gone
                and wire.reviews.free(item_key(place, queue), owner, now, most)
                and not self._own.answered(owner, place, queue)
            )
            return list(islice(found, want))

        person = person_of(owner)

        def topic(place: Place) -> Given:
            return wire.reviews.settled.get(item_key(place, queue), {})

        if queue == AUDIT:
            return free(await self._board.audited(person, topic))
        if queue == DISAGREEMENTS:
            return free(await self._board.disputed(person, topic))
        state = await self._board.state()
        busy = len(wire.reviews.leases) + len(wire.reviews.settled) + len(state.drawn)

        def undrawn(places: Iterable[Place]) -> list[Place]:
            # The candidates are some seconds old, and which rows are drawn is known better here.
            return [place for place, _ in free((place, 1) for place in places if place not in state.drawn)]

        places = await self._unsure.choose(want, busy, undrawn, state.draw)
        return [(place, 1) for place in places]

    async def _current(self, place: Place) -> Labeled:
        found = await self._tables.ask(lambda client, settings: current_of(client, settings, [place]))
        if place not in found:
            raise RefusedError("there is no such row", reason="not-found")
        return found[place]

    async def _labels(self) -> Taxonomy:
        if self._taxonomy is None:
            self._taxonomy = await asyncio.to_thread(load_taxonomy, self._settings.taxonomy_path)
        return self._taxonomy

    async def _wired(self) -> _Wire:
        async with self._starting:
            if self._wire is None:
                wire = _Wire(await asyncio.to_thread(with_local_stack, self._settings))
                try:
                    await wire.start()
                except BaseException:
                    await wire.stop()
                    raise
                self._wire = wire
            return self._wire
