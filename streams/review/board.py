"""Who is still to be asked about the rows of the audit, and which rows two people answered differently.

Read from the tables, and shared by all reviewers of a process. What the tables do not have yet is known from
the review topic: the caller passes it on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.draw import KnownDraws
from connectors.clickhouse.queries.given_labels import GivenLabel, labels_at
from connectors.clickhouse.queries.gold import human_answers, settled
from connectors.clickhouse.queries.label_versions import current_version, list_versions
from streams.core.api_keys import parse_keys
from streams.core.errors import LabelstreamError
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.ports.review import AUDIT, DISAGREEMENTS, NOT_SURE, SEARCH, DrawnBy, HumanAnswer
from streams.privacy.erasure import ERASED_ID
from streams.quality.agreement import answered_twice, kappa
from streams.quality.audit import Draw, DrawnRow, asks_second, draw_rows
from streams.quality.settled import differ
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()

# Rows of the audit that are kept at once.
_MOST = 2_000
_ANSWERS_OF = timedelta(weeks=13)
# A look is repeated after so many seconds at least, and takes at most a twentieth of the server's time.
_LEAST_SECONDS, _SHARE_OF_TIME = 5.0, 20.0

# A person's answer: the label, or the answer without one.
Given = Mapping[str, str]


def people_asked(given: Given, second: bool) -> int:
    """How many people are asked about a row of the audit, of whom ``given`` answered.

    Two, if it is one of those that two people answer. Else one, and one more if the first is not sure.
    """
    return 2 if second or list(given.values()) == [NOT_SURE] else 1


@dataclass
class _State:
    """``answers``: of each row all that stand. ``disputed``: rows of which they differ."""

    draw: Draw | None
    answers: Mapping[Place, Sequence[HumanAnswer]]
    drawn: Mapping[Place, DrawnRow] = field(init=False)
    disputed: Sequence[Place] = field(init=False)
    kappa: float | None = field(init=False)
    doubled: int = field(init=False)

    def __post_init__(self) -> None:
        self.drawn = {one.place: one for one in self.draw.rows} if self.draw else {}
        self.disputed = [
            place
            for place, some in self.answers.items()
            if differ(some) and not place.row_id.startswith(ERASED_ID)
        ]
        pairs = answered_twice(one for some in self.answers.values() for one in some)
        self.kappa, self.doubled = kappa(pairs), len(pairs)

    def given(self, place: Place, queue: DrawnBy = AUDIT) -> dict[str, str]:
        """The answers of a queue about a row, by person."""
        return {
            one.who: one.label or one.answer for one in self.answers.get(place, ()) if one.drawn_by == queue
        }


class AuditBoard:
    """The rows of the audit and their answers, as of some seconds ago."""

    def __init__(self, settings: Settings, tables: ResultTables) -> None:
        self._settings = settings
        self._tables = tables
        self._looking = asyncio.Lock()
        self._known = KnownDraws()
        self._state: _State | None = None
        self._next = float("-inf")
        self._task: asyncio.Task[None] | None = None
        people = parse_keys(settings.api_keys.get_secret_value()) if settings.api_keys else ()
        self._few = sum(one.may("review") for one in people) < 3

    async def state(self) -> _State:
        """What the tables held some seconds ago; only the first question waits for them.

        Raises:
            UnavailableError, ConfigurationError: as the tables, at the first question.
        """
        if self._state is None:
            async with self._looking:
                if self._state is None:
                    await self._look()
        elif time.monotonic() > self._next and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._look_again())
        assert self._state is not None
        return self._state

    async def close(self) -> None:
        """End the look at the tables that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _look(self) -> None:
        began = time.monotonic()
        self._state = await self._tables.ask(lambda client, settings: _look(client, settings, self._known))
        now = time.monotonic()
        self._next = now + max(_LEAST_SECONDS, _SHARE_OF_TIME * (now - began))

    async def _look_again(self) -> None:
        try:
            await self._look()
        except LabelstreamError as error:
            # Who asks for rows hears it from the next question.
            log.warning("audit_not_read", error=str(error))
            self._next = time.monotonic() + _LEAST_SECONDS

    async def audited(self, person: str, topic: Callable[[Place], Given]) -> list[tuple[Place, int]]:
        """The rows about which ``person`` may be asked, in their order, and how many people are asked about
        each. ``topic``: a row's answers on the review topic.
        """
        state = await self.state()
        found: list[tuple[Place, int]] = []
        for place in state.drawn:
            given = {**state.given(place), **topic(place)}
            asked = people_asked(given, asks_second(self._settings, place))
            if person not in given and len(given) < asked:
                found.append((place, asked))
        return found

    async def disputed(self, person: str, topic: Callable[[Place], Given]) -> list[tuple[Place, int]]:
        """The rows that ``person`` may settle, and how many people are asked about each: a third person, if
        there are three, and one more for each who was not sure. ``topic``: as for `audited`.
        """
        state = await self.state()
        found: list[tuple[Place, int]] = []
        for place in state.disputed:
            given = {**state.given(place, DISAGREEMENTS), **topic(place)}
            asked = 1 + list(given.values()).count(NOT_SURE)
            may = self._few or person not in {**state.given(place), **state.given(place, SEARCH)}
            if may and person not in given and len(given) < asked:
                found.append((place, asked))
        return found

    async def probability(self, place: Place) -> float | None:
        """With which a row was drawn; None if it was not."""
        state = await self.state()
        if (drawn := state.drawn.get(place)) is not None:
            return drawn.probability
        return next(
            (one.draw_probability for one in state.answers.get(place, ()) if one.draw_probability), None
        )

    async def answers(self, place: Place) -> list[str]:
        """What people answered about a row in the audit or by search, each answer once, in no person's
        order.
        """
        state = await self.state()
        told = {one for queue in (AUDIT, SEARCH) for one in state.given(place, queue).values()}
        return sorted(told - {NOT_SURE})

    async def others_label(self, place: Place, who: str, queue: DrawnBy) -> str | None:
        """The label that counts of those that the row has, but for that of ``who`` in ``queue``; None if
        there is none.
        """

        async def look(client: ClickHouseClient, settings: Settings) -> list[HumanAnswer]:
            until = place.created_at + timedelta(microseconds=1)
            found = human_answers(client, settings, since=place.created_at, until=until)
            return [one async for one in found if one.row_id == place.row_id]

        others = [
            one
            for one in await self._tables.ask(look)
            if one.label is not None and (one.who, one.drawn_by) != (who, queue)
        ]
        return settled(others).label if others else None

    async def models_label(self, place: Place) -> str | None:
        """The row's label by the current version; None if it has none."""

        async def look(client: ClickHouseClient, settings: Settings) -> GivenLabel | None:
            current = current_version(await list_versions(client, settings))
            if current is None:
                return None
            return (await labels_at(client, settings, current.version, [place])).get(place)

        found = await self._tables.ask(look)
        return None if found is None else found.label

    async def waiting(self) -> tuple[int, int]:
        """How many answers the audit waits for, and how many rows are to be settled."""
        state = await self.state()
        if state.draw is None:
            return 0, 0
        asked = state.draw.total
        for place in state.answers:
            if place in state.drawn and (given := state.given(place)):
                asked -= len(given) >= people_asked(given, asks_second(self._settings, place))
        return max(0, asked), len(state.disputed)


async def _look(client: ClickHouseClient, settings: Settings, known: KnownDraws) -> _State:
    draw = await draw_rows(client, settings, datetime.now(UTC), _MOST, known)
    answers: dict[Place, list[HumanAnswer]] = {}
    if draw is not None:
        async for one in human_answers(client, settings, since=draw.since - _ANSWERS_OF):
            answers.setdefault(Place(one.created_at, one.row_id), []).append(one)
    return _State(draw, answers)
