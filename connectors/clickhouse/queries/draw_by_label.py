"""Rows drawn for the sake of their label, together with those that are drawn whatever their label is.

Both need the number of each row of a week, which is nearly all that they cost. So one look finds both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.queries.draw import (
    BY_MODELS,
    DRAW,
    OF_DAY,
    Candidate,
    KnownDraws,
    candidate_of,
    days_of,
    in_order,
    labels_of,
)
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place

# Rows of a label are looked at whose number is below so many times what would give as many as are wanted.
_MORE = 10.0


class LabelDraws(NamedTuple):
    """``lowest``, ``total``: as `lowest_draws`. ``by_label``: of each label its rows with the lowest numbers,
    the lowest first, and the least number above theirs: each row of the label below it is one of them. 1
    where there are no more rows.
    """

    lowest: Sequence[Candidate]
    total: int
    by_label: Mapping[str, tuple[Sequence[Candidate], float]]


async def lowest_draws_by_label(
    client: ClickHouseClient,
    settings: Settings,
    *,
    salt: str,
    share: float,
    count: int,
    since: datetime,
    until: datetime,
    version: str,
    most: int,
    known: KnownDraws,
) -> LabelDraws:
    """The ``most`` rows with the lowest numbers below ``share``, and the ``count`` lowest of each label of
    ``version``.

    ``since`` (inclusive), ``until`` (exclusive): the row's time. Uploaded rows are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    days = days_of(micros_of(since), micros_of(until))
    labels = await labels_of(client, settings, days)
    given = {"salt": salt, "share": share, "version": version, "most": most}
    question = ("of each label", *given.items(), count, since, until)
    return await known.of(question, labels, partial(_look, client, settings, days, given, count))


async def _look(
    client: ClickHouseClient,
    settings: Settings,
    days: Sequence[Mapping[str, int]],
    given: Mapping[str, Any],
    count: int,
) -> LabelDraws:
    share, most = given["share"], given["most"]
    bounds = await _bounds(client, settings, days, given["version"], count)
    bound = "transform({}, {{labels:Array(String)}}, {{bounds:Array(Float64)}}, toFloat64(0))"
    of_label, of_newest = bound.format("toString(label)"), bound.format("newest")
    below = (
        f"if(label_version = {{version:String}}, greatest({{share:Float64}}, {of_label}), {{share:Float64}})"
    )
    given = {**given, "labels": list(bounds), "bounds": list(bounds.values())}
    lowest: list[Candidate] = []
    of_labels: dict[str, list[Candidate]] = {label: [] for label in bounds}
    total = 0
    for day in days:
        rows = await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at), row_id, draw, newest, below, place FROM (\n"
            "    SELECT *, countIf(draw < {share:Float64}) OVER () AS below,\n"
            "        row_number() OVER (ORDER BY draw, created_at, row_id) AS place\n"
            "    FROM (\n"
            f"        SELECT created_at, row_id, any({DRAW}) AS draw, argMaxIf(toString(label), "
            f"{newness('labeled_at')}, label_version = {{version:String}}) AS newest\n"
            f"        FROM {result_table(settings, LABELED)}\n"
            f"        WHERE {OF_DAY} AND {BY_MODELS} AND {DRAW} < {below}\n"
            "        GROUP BY created_at, row_id\n"
            "    )\n"
            f") WHERE draw < {of_newest} OR draw < {{share:Float64}} AND place <= {{most:UInt32}}",
            {**given, **day},
        )
        for row in rows:
            one = candidate_of(row)
            if one.draw < share and int(row[5]) <= most:
                lowest.append(one)
            if one.draw < bounds.get(one.label, 0.0):
                of_labels[one.label].append(one)
        lowest = in_order(lowest)[:most]
        total += int(rows[0][4]) if rows else 0
    return LabelDraws(
        lowest, total, await _standing(client, settings, given["version"], of_labels, bounds, count)
    )


async def _bounds(
    client: ClickHouseClient,
    settings: Settings,
    days: Sequence[Mapping[str, int]],
    version: str,
    count: int,
) -> dict[str, float]:
    """Below which number rows of each label are looked at."""
    counts = await client.rows(
        f"SELECT toString(label), count() FROM {result_table(settings, LABELED)}\n"
        f"WHERE {OF_DAY} AND label_version = {{version:String}} AND {BY_MODELS} GROUP BY label",
        {"version": version, "begin": days[0]["begin"], "end": days[-1]["end"]},
    )
    return {str(label): min(1.0, _MORE * (count + 10) / int(number)) for label, number in counts}


async def _standing(
    client: ClickHouseClient,
    settings: Settings,
    version: str,
    of_labels: Mapping[str, Sequence[Candidate]],
    bounds: Mapping[str, float],
    count: int,
) -> dict[str, tuple[list[Candidate], float]]:
    """Of each label the ``count`` lowest of the rows that have it.

    A row that was labelled again was found by its former label where the number is too large for its newest
    one. It is neither's. So the lowest are looked up until there are enough.
    """
    found: dict[str, list[Candidate]] = {label: [] for label in of_labels}
    left = {label: in_order(some) for label, some in of_labels.items()}
    while True:
        asked = {
            label: some[: count + 1 - len(found[label])]
            for label, some in left.items()
            if len(found[label]) <= count and some
        }
        if not asked:
            break
        newest = await _newest(
            client, settings, version, [one.place for some in asked.values() for one in some]
        )
        for label, some in asked.items():
            found[label] += [one for one in some if newest.get(one.place) == label]
            left[label] = left[label][len(some) :]
    return {
        label: (some[:count], some[count].draw if len(some) > count else bounds[label])
        for label, some in found.items()
        if some
    }


async def _newest(
    client: ClickHouseClient, settings: Settings, version: str, places: Sequence[Place]
) -> dict[Place, str]:
    found: dict[Place, str] = {}
    for _, given in place_batches(places):
        rows = await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at), row_id, "
            f"argMax(toString(label), {newness('labeled_at')})\n"
            f"FROM {result_table(settings, LABELED)}\n"
            f"WHERE label_version = {{version:String}} AND {AT_PLACES} GROUP BY created_at, row_id",
            {"version": version, **given},
            skip_indexes=index_helps(given),
        )
        found |= {Place(moment(int(at)), str(row_id)): str(label) for at, row_id, label in rows}
    return found
