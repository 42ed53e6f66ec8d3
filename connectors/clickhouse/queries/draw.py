"""Rows drawn at random among those that have a label: by a number made of each row's identity.

The number of a row is made of a salt, the row's time and its id. It is uniform between 0 and 1, and the same
in each query, in each process and after a replay. `streams/quality/audit.py` has it in Python.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple, TypeVar

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.label_version import HUMAN
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place

UPLOADED = "upload:"
# 53 bits of a SHA-256: as many as a double holds.
DRAW = (
    "bitShiftRight(reinterpretAsUInt64(substring(SHA256(concat({salt:String}, "
    "reinterpretAsFixedString(toUnixTimestamp64Micro(created_at)), row_id)), 1, 8)), 11) / 9007199254740992"
)
BY_MODELS = (
    f"label_version != {literal(HUMAN)} AND NOT startsWith(row_id, {literal(UPLOADED)}) AND {NOT_ERASED}"
)
# A digest is made of each row, so that two weeks of rows would take a query too long: a day each.
_DAY, _MOST_DAYS = 86_400 * 1_000_000, 16
# Answers that are kept: of the days of two weeks under one version, and of another version.
_MOST_KNOWN, _KNOWN_SECONDS = 40, 3600.0

T = TypeVar("T")
OF_DAY = f"{time_is('>=', 'begin')} AND {time_is('<', 'end')}"


class Candidate(NamedTuple):
    """A row, its number, and its label by the version that was asked for; empty if it has none by that."""

    place: Place
    draw: float
    label: str


class KnownDraws:
    """What was drawn of which days, for the next look: only days whose number of labels is another one are
    looked through again. What leaves that number as it is, such as an erasure, is seen an hour later.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock``: seconds."""
        self._clock = clock
        self._known: dict[object, tuple[float, object, Any]] = {}

    async def of(self, question: object, labels: object, look: Callable[[], Awaitable[T]]) -> T:
        """The answer to ``question`` about so many ``labels``: the known one, or that of ``look``."""
        made, same, answer = self._known.pop(question, (0.0, None, None))
        if same != labels or self._clock() - made > _KNOWN_SECONDS:
            answer, made = await look(), self._clock()
        self._known[question] = made, labels, answer
        while len(self._known) > _MOST_KNOWN:
            self._known.pop(next(iter(self._known)))
        found: T = answer
        return found


@dataclass(frozen=True)
class Audited:
    """Rows that the audit asks about: those at ``since`` or later whose number is below ``share``. From
    ``monday`` on it is not certain yet which rows are drawn for the sake of their label: those, most likely,
    whose number is below the ``bounds`` of their label.
    """

    salt: str
    share: float
    since: datetime
    monday: datetime
    bounds: Mapping[str, float] = field(default_factory=dict)

    def others(self) -> tuple[str, dict[str, Any]]:
        """The condition that the audit does not ask about a row, and its parameters. Uploaded rows are not
        drawn.
        """
        given: dict[str, Any] = {"salt": self.salt, "share": self.share, "audited": micros_of(self.since)}
        below = "{share:Float64}"
        if self.bounds:
            labels, bounds = list(self.bounds), list(self.bounds.values())
            given |= {"monday": micros_of(self.monday), "labels": labels, "bounds": bounds}
            of_label = (
                f"transform(toString(label), {{labels:Array(String)}}, {{bounds:Array(Float64)}}, {below})"
            )
            below = f"if({time_is('<', 'monday')}, {below}, {of_label})"
        uploaded = f"startsWith(row_id, {literal(UPLOADED)})"
        return f"({uploaded} OR {time_is('<', 'audited')} OR {DRAW} >= {below})", given


async def lowest_draws(
    client: ClickHouseClient,
    settings: Settings,
    *,
    salt: str,
    share: float,
    since: datetime,
    until: datetime,
    version: str,
    most: int,
    known: KnownDraws,
) -> tuple[list[Candidate], int]:
    """The ``most`` rows with the lowest numbers below ``share``, the lowest first, and how many there are.

    ``since``, ``until`` (both inclusive): the row's time. ``version``: empty for no labels. Uploaded rows are
    left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    if share <= 0.0:
        return [], 0
    given = {"salt": salt, "share": share, "version": version, "most": most}
    # Three more columns of every row, as each piece of the table has some that are drawn.
    label_of = (
        f"argMaxIf(toString(label), {newness('labeled_at')}, label_version = {{version:String}})"
        if version
        else "''"
    )

    async def look(day: Mapping[str, int]) -> tuple[list[Candidate], int]:
        rows = await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at), row_id, draw, label_of, count() OVER () FROM (\n"
            f"    SELECT created_at, row_id, any({DRAW}) AS draw, {label_of} AS label_of\n"
            f"    FROM {result_table(settings, LABELED)}\n"
            f"    WHERE {OF_DAY} AND {DRAW} < {{share:Float64}} AND {BY_MODELS}\n"
            "    GROUP BY created_at, row_id\n"
            ") ORDER BY draw, created_at, row_id LIMIT {most:UInt32}",
            {**given, **day},
        )
        return [candidate_of(row) for row in rows], int(rows[0][4]) if rows else 0

    found: list[Candidate] = []
    total = 0
    days = days_of(micros_of(since), micros_of(until) + 1)
    for day, labels in zip(days, await labels_of(client, settings, days), strict=True):
        question = (*given.items(), day["begin"])
        some, count = await known.of(question, (day["end"], labels), partial(look, day))
        found = in_order([*found, *some])[:most]
        total += count
    return found, total


def days_of(first: int, end: int) -> list[dict[str, int]]:
    """The parameters of OF_DAY; ``end``: exclusive. Of a time longer than audits look at, longer parts."""
    step = max(_DAY, (end - first) // _MOST_DAYS + 1)
    return [{"begin": begin, "end": min(begin + step, end)} for begin in range(first, end, step)]


async def labels_of(
    client: ClickHouseClient, settings: Settings, days: Sequence[Mapping[str, int]]
) -> tuple[int, ...]:
    """How many labels the rows of each day have; read from the table's index."""
    asked = (
        f"SELECT {number} AS day, count() FROM {result_table(settings, LABELED)}\n"
        f"WHERE {time_is('>=', f'begin{number}')} AND {time_is('<', f'end{number}')}"
        for number in range(len(days))
    )
    given = {f"{name}{number}": at for number, day in enumerate(days) for name, at in day.items()}
    rows = await client.rows("\nUNION ALL ".join(asked), given) if days else []
    return tuple(int(count) for _, count in sorted(rows))


def in_order(candidates: Iterable[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda one: (one.draw, one.place))


def candidate_of(row: Any) -> Candidate:
    at, row_id, draw, label, *_ = row
    return Candidate(Place(moment(int(at)), str(row_id)), float(draw), str(label))
