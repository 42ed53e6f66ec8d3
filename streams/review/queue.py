"""The review queue: reviewers lease the least confident labels, and their labels are published.

A human label is published on the labelled topic like any other, as version `human`, and stored from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple

import structlog

from agents.taxonomy import Taxonomy, load_taxonomy
from connectors.clickhouse.queries.gold import gold_labels
from connectors.clickhouse.queries.review import (
    current_of,
    frequent_labels,
    least_sure,
    review_counts,
)
from streams.core.errors import RefusedError
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import HumanLabel, Labeled
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import UNSURE, Choice, GoldLabel, ReviewCounts
from streams.review.leases import decision_message, lease_message, row_key
from streams.review.topic import _Wire
from streams.runtime.local_stack import with_local_stack
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

MOST_HELD = 20
_CANDIDATES = 500
_CANDIDATES_SECONDS = 20.0
# Queries over all rows are shared by all reviewers.
_COUNTS_SECONDS, _OFTEN_SECONDS = 10.0, 300.0
_ROUNDS = 6
_MICROSECOND = timedelta(microseconds=1)
_MOST_OWN = 5_000


class _Own(NamedTuple):
    """A row at a reviewer's desk: its former label, and the reviewer's one; None before that."""

    was: Labeled
    said: Labeled | None


class ReviewQueue:
    """Implements `streams.review.leases.ReviewDesk`."""

    def __init__(self, settings: Settings, tables: ResultTables) -> None:
        self._settings = settings
        self._tables = tables
        self._wire: _Wire | None = None
        self._starting = asyncio.Lock()
        self._claiming = asyncio.Lock()
        self._candidates: list[Place] = []
        self._looked = float("-inf")
        self._often: tuple[float, list[str]] = (float("-inf"), [])
        self._counting = asyncio.Lock()
        self._counts: tuple[float, ReviewCounts] | None = None
        self._taxonomy: Taxonomy | None = None
        # Rows that were handed out here, and their human labels, which reach the tables later.
        self._own: dict[tuple[str, Place], _Own] = {}

    async def choices(self) -> Sequence[Choice]:
        taxonomy = await self._labels()
        if time.monotonic() - self._often[0] > _OFTEN_SECONDS:
            self._often = (time.monotonic(), await self._tables.ask(frequent_labels))
        rank = {label: number for number, label in enumerate(self._often[1])}
        domains = sorted(taxonomy.domains, key=lambda one: rank.get(one.name, len(rank)))
        return [Choice(one.name, one.title) for one in domains]

    async def claim(self, owner: str, want: int) -> Sequence[Labeled]:
        wire = await self._wired()
        want = min(want, MOST_HELD)
        # One request at a time here. If another process was faster, the next rows are requested.
        async with self._claiming:
            for _ in range(_ROUNDS):
                free = await self._free(wire, owner, want)
                asked = [place for place in free if not self._held(wire, owner, place)]
                if not asked:
                    break
                await wire.write(*(lease_message(wire.topics, place, owner) for place in asked))
        got = [place for place in free if self._held(wire, owner, place)]
        wire.reviews.forget_ended(time.time())
        current = await self._tables.ask(
            lambda client, settings: current_of(client, settings, got, by_models=True)
        )
        for place, row in current.items():
            held = self._own.get((owner, place))
            self._keep(
                owner, place, _Own(row if held is None else held.was, None if held is None else held.said)
            )
        return [current[place] for place in got if place in current]

    async def label(self, owner: str, place: Place, label: str) -> Labeled:
        wire = await self._wired()
        if label not in (await self._labels()).names:
            raise RefusedError(f"{label} is no label of the taxonomy", reason="no-label")
        own = self._own.get((owner, place))
        if own is not None and own.said is not None and own.said.label == label:
            return own.said  # a repeated request
        if not wire.reviews.holds(row_key(place), owner, time.time()) or self._said(owner, place):
            raise RefusedError("the row is not yours, or no longer", reason="conflict")
        was = own.was if own is not None else await self._current(place)
        message = HumanLabel.model_validate(
            was.__dict__
            | {
                "label": label,
                "confidence": None,
                "confidence_raw": None,
                "calibration": None,
                "alternatives": [],
                "label_version": HUMAN,
                "model": f"{HUMAN}:{_name(owner)}",
                "labeled_at": self._now(was),
                "cached": False,
                "drawn_by": UNSURE,
            }
        )
        # First to the labelled topic: after a crash in between, the row is offered again and no label is
        # lost.
        await wire.publish(message, self._settings.topic_partitions)
        self._keep(owner, place, _Own(was, message))
        await wire.write(decision_message(wire.topics, place, owner, "label", label), learn=False)
        return message

    async def skip(self, owner: str, place: Place) -> None:
        wire = await self._wired()
        await wire.write(decision_message(wire.topics, place, owner, "skip"), learn=False)

    async def undo(self, owner: str, place: Place) -> Labeled:
        wire = await self._wired()
        own = self._own.get((owner, place))
        if own is None or own.said is None:
            raise RefusedError("there is nothing of yours to take back", reason="conflict")
        back = HumanLabel.model_validate(
            own.was.__dict__
            | {
                "label_version": HUMAN,
                "model": f"{HUMAN}:{_name(owner)}{UNDONE}",
                "labeled_at": self._now(own.said),
                "drawn_by": UNSURE,
            }
        )
        await wire.publish(back, self._settings.topic_partitions)
        # It must be later than the label before.
        self._keep(owner, place, _Own(own.was.model_copy(update={"labeled_at": back.labeled_at}), None))
        await wire.write(decision_message(wire.topics, place, owner, "undo"))
        return own.was

    async def release(self, owner: str) -> None:
        wire = await self._wired()
        held = [row for row, lease in wire.reviews.leases.items() if lease.owner == owner]
        places = [place for place in self._candidates if row_key(place) in held]
        if places:
            await wire.write(*(decision_message(wire.topics, place, owner, "release") for place in places))

    async def counts(self) -> ReviewCounts:
        async with self._counting:
            if self._counts is None or time.monotonic() - self._counts[0] > _COUNTS_SECONDS:
                self._counts = (time.monotonic(), await self._tables.ask(review_counts))
            return self._counts[1]

    async def gold(self) -> AsyncIterator[GoldLabel]:
        async for page in self._tables.stream(gold_labels):
            yield page

    async def close(self) -> None:
        """Close the connections."""
        if self._wire is not None:
            await self._wire.stop()

    def _said(self, owner: str, place: Place) -> bool:
        """Whether the reviewer labelled it here; the topic may show it a little later."""
        own = self._own.get((owner, place))
        return own is not None and own.said is not None

    def _held(self, wire: _Wire, owner: str, place: Place) -> bool:
        return wire.reviews.holds(row_key(place), owner, time.time())

    async def _free(self, wire: _Wire, owner: str, want: int) -> list[Place]:
        """Rows that may be requested, the least confident first."""

        def free() -> list[Place]:
            now = time.time()
            found = (
                one
                for one in self._candidates
                if wire.reviews.free(row_key(one), owner, now) and not self._said(owner, one)
            )
            return list(islice(found, want))

        old = time.monotonic() - self._looked > _CANDIDATES_SECONDS
        found = free()
        if old or len(found) < want:
            # They include rows that are leased, or decided and not in the tables yet.
            busy = len(wire.reviews.leases) + len(wire.reviews.settled)
            most = _CANDIDATES + min(busy, 20_000)
            if old or time.monotonic() - self._looked > 1.0:
                self._candidates = await self._tables.ask(
                    lambda client, settings: least_sure(client, settings, most)
                )
                self._looked = time.monotonic()
            found = free()
        return found

    async def _current(self, place: Place) -> Labeled:
        found = await self._tables.ask(lambda client, settings: current_of(client, settings, [place]))
        if place not in found:
            raise RefusedError("there is no such row", reason="not-found")
        return found[place]

    def _now(self, after: Labeled) -> datetime:
        """A time after that of the label before, because the last one counts."""
        return max(datetime.now(UTC), after.labeled_at + _MICROSECOND)

    def _keep(self, owner: str, place: Place, own: _Own) -> None:
        self._own.pop((owner, place), None)
        self._own[(owner, place)] = own
        if len(self._own) > _MOST_OWN:
            self._own.pop(next(iter(self._own)))

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


def _name(owner: str) -> str:
    """The reviewer of a desk."""
    return owner.partition("/")[0]
