"""Rows drawn at random among those that have a label: by a number made of each row's identity.

The number of a row is made of a salt, the row's time and its id. It is uniform between 0 and 1, and the same
in each query, in each process and after a replay. `streams/quality/audit.py` has it in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, result_table
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.places import time_is
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.label_version import HUMAN
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place

UPLOADED = "upload:"
# 53 bits of a SHA-256: as many as a double holds.
_DRAW = (
    "bitShiftRight(reinterpretAsUInt64(substring(SHA256(concat({salt:String}, "
    "reinterpretAsFixedString(toUnixTimestamp64Micro(created_at)), row_id)), 1, 8)), 11) / 9007199254740992"
)
_MODELS = (
    f"label_version != {literal(HUMAN)} AND NOT startsWith(row_id, {literal(UPLOADED)}) AND {NOT_ERASED}"
)
# Rows are looked at whose number is below so many times what would give as many as are wanted.
_MORE = 10.0


class Candidate(NamedTuple):
    """A row, its number, and its label by the version that was asked for; empty if it has none by that."""

    place: Place
    draw: float
    label: str


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
        return f"({uploaded} OR {time_is('<', 'audited')} OR {_DRAW} >= {below})", given


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
) -> tuple[list[Candidate], int]:
    """The ``most`` rows with the lowest numbers below ``share``, the lowest first, and how many there are.

    ``since``, ``until`` (both inclusive): the row's time. Uploaded rows are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    if share <= 0.0:
        return [], 0
    rows = await client.rows(
        "SELECT toUnixTimestamp64Micro(created_at), row_id, draw, label_of, count() OVER () FROM (\n"
        f"    SELECT created_at, row_id, any({_DRAW}) AS draw,\n"
        "        argMaxIf(toString(label), "
        f"{newness('labeled_at')}, label_version = {{version:String}}) AS label_of\n"
        f"    FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {time_is('>=', 'since')} AND {time_is('<=', 'until')}\n"
        f"        AND {_DRAW} < {{share:Float64}} AND {_MODELS}\n"
        "    GROUP BY created_at, row_id\n"
        ") ORDER BY draw, created_at, row_id LIMIT {most:UInt32}",
        {
            "salt": salt,
            "share": share,
            "since": micros_of(since),
            "until": micros_of(until),
            "version": version,
            "most": most,
        },
    )
    return [_candidate(row) for row in rows], int(rows[0][4]) if rows else 0


async def lowest_draws_by_label(
    client: ClickHouseClient,
    settings: Settings,
    *,
    salt: str,
    count: int,
    since: datetime,
    until: datetime,
    version: str,
) -> dict[str, tuple[list[Candidate], float]]:
    """Of each label of ``version`` the ``count`` rows with the lowest numbers, the lowest first, and the
    least number above theirs: each row below it is one of them. 1 where there are no more rows.

    ``since`` (inclusive), ``until`` (exclusive): the row's time. Uploaded rows are left out. Raises as
    `lowest_draws`.
    """
    given: dict[str, Any] = {
        "version": version,
        "since": micros_of(since),
        "until": micros_of(until),
    }
    week = (
        f"FROM {result_table(settings, LABELED)}\nWHERE {time_is('>=', 'since')} "
        f"AND {time_is('<', 'until')} AND label_version = {{version:String}} AND {_MODELS}"
    )
    counts = await client.rows(f"SELECT toString(label), count() {week} GROUP BY label", given)
    bounds = {
        str(label): min(1.0, _MORE * (count + 10) / int(number)) for label, number in counts if int(number)
    }
    if not bounds:
        return {}
    below = "transform({}, {{labels:Array(String)}}, {{bounds:Array(Float64)}}, toFloat64(0))"
    newest = f"argMax(toString(label), {newness('labeled_at')})"
    # The rows with a label below its bound are few. One that was labelled again has several labels, and only
    # the newest counts.
    rows = await client.rows(
        f"SELECT toUnixTimestamp64Micro(created_at), row_id, {_DRAW}, {newest}\n"
        f"{week} AND (created_at, row_id) IN (\n"
        f"    SELECT created_at, row_id {week} AND {_DRAW} < {below.format('toString(label)')}\n"
        f") GROUP BY created_at, row_id HAVING {_DRAW} < {below.format(newest)}\n"
        f"ORDER BY {_DRAW}, created_at, row_id",
        {**given, "salt": salt, "labels": list(bounds), "bounds": list(bounds.values())},
    )
    found: dict[str, list[Candidate]] = {}
    for row in rows:
        candidate = _candidate(row)
        found.setdefault(candidate.label, []).append(candidate)
    return {
        label: (some[:count], some[count].draw if len(some) > count else bounds.get(label, 1.0))
        for label, some in found.items()
    }


def _candidate(row: Any) -> Candidate:
    at, row_id, draw, label, *_ = row
    return Candidate(Place(moment(int(at)), str(row_id)), float(draw), str(label))
