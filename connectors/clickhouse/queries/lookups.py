"""Reads the result tables for people: the history of a row, and labels by what they are.

Every value goes to the server as a parameter of the query; the texts here hold names only.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, probability, quoted, result_table, time_is
from connectors.clickhouse.queries.dead_letters import list_letters
from connectors.clickhouse.queries.places import AT_PLACES, place_batches, time_of_newest, times_of
from connectors.clickhouse.schema.columns import columns_of
from connectors.clickhouse.schema.newest import newest_first
from connectors.clickhouse.schema.tables import AUGMENTED, CURRENT, LABELED
from streams.core.messages import Alternative, Augmented, Labeled, RejectedVariant
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import LabelPage, LabelQuery, Place, RowHistory

L = TypeVar("L", bound=Labeled)

_MOST = 1_000  # versions of one id, over all the rows that have it
_LETTERS = 50
# So often are candidates looked at that turn out not to be the label that counts.
_ROUNDS = 20
# How many labels are looked through at once, and how long it may go on.
_FIRST_WINDOW, _LAST_WINDOW = 10_000, 1_600_000
_SEARCH_SECONDS = 0.5
# No id of a row sorts before it; an empty one would make no cursor.
_BEFORE_ALL = " "
# What a DateTime64(6) can hold.
_FIRST, _LAST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2299, 12, 31, tzinfo=UTC)


async def row_history(client: ClickHouseClient, settings: Settings, row_id: str) -> RowHistory | None:
    """All that is stored of ``row_id``; None if nothing is.

    Raises:
        UnavailableError, OverloadedError, ConfigurationError.
    """
    places = await times_of(client, settings, [row_id])
    labels = await _at(
        client,
        places,
        Labeled,
        f"{result_table(settings, LABELED)} WHERE {AT_PLACES}\n"
        f"ORDER BY created_at DESC, {newest_first('labeled_at')} "
        "LIMIT 1 BY created_at, label_version",
    )
    variants = await _at(
        client,
        places,
        Augmented,
        f"{result_table(settings, AUGMENTED)} WHERE {AT_PLACES}\n"
        f"ORDER BY created_at DESC, {newest_first('augmented_at')} "
        "LIMIT 1 BY created_at, label_version, augment_model",
    )
    letters = await list_letters(client, settings, row_id=row_id, limit=_LETTERS)
    if not (labels or variants or letters):
        return None
    found: set[tuple[datetime, str]] = set()
    for _, given in place_batches(places):
        for micros, version in await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at), toString(label_version)\n"
            f"FROM {result_table(settings, CURRENT)} WHERE {AT_PLACES}",
            given,
        ):
            found.add((moment(int(micros)), str(version)))
    return RowHistory(labels, frozenset(found), variants, letters)


async def _at(client: ClickHouseClient, places: Sequence[Place], kind: type[L], source: str) -> list[L]:
    """Messages of ``source`` at ``places``, the newest rows first."""
    found: list[L] = []
    for _, given in place_batches(places):
        found = await messages_of(client, kind, source, given) + found
    return found[:_MOST]


async def search_labels(
    client: ClickHouseClient, settings: Settings, query: LabelQuery, after: Place | None, limit: int
) -> LabelPage:
    """At most ``limit`` labels, the newest rows first, from behind ``after``.

    Rows are looked for in the order of the table, which ends as soon as there are enough; only those that are
    found are then asked for the label that counts: the current one, or the newest of the version asked for.
    Where few rows fit, a page may be short or empty and have a next one: it ends after a second or so.

    Raises:
        as `row_history`.
    """
    found: list[Labeled] = []
    begun, size = time.monotonic(), _FIRST_WINDOW
    while True:
        floor = await _floor(client, settings, query, after, size)
        for _ in range(_ROUNDS):
            wanted = limit - len(found) + 1
            labels = await _candidates(client, settings, query, after, floor, wanted)
            ended = len(labels) < wanted
            after = Place(labels[-1].created_at, labels[-1].row_id) if labels else after
            found += await _counting(client, settings, query, labels)
            if len(found) > limit:
                last = found[limit - 1]
                return LabelPage(found[:limit], Place(last.created_at, last.row_id))
            if ended:
                break
        else:
            return LabelPage(found, after)
        if floor is None:
            return LabelPage(found, None)
        after = Place(moment(floor), _BEFORE_ALL)  # behind it come the rows before that time
        if time.monotonic() - begun > _SEARCH_SECONDS:
            return LabelPage(found, after)
        size = min(size * 4, _LAST_WINDOW)


async def _floor(
    client: ClickHouseClient, settings: Settings, query: LabelQuery, after: Place | None, size: int
) -> int | None:
    """The time of the ``size``-th label from ``after`` on, microseconds since 1970; None if there are not so
    many.
    """
    conditions, given = [time_is("<=", "begin")], {"begin": _micros(_LAST)}
    if query.until is not None:
        given["begin"] = _micros(query.until)
    if after is not None:
        given["begin"] = min(given["begin"], _micros(after.created_at))
    if query.since is not None:
        conditions.append(time_is(">=", "since"))
        given["since"] = _micros(query.since)
    return await time_of_newest(client, settings, size, conditions, given)


async def _candidates(
    client: ClickHouseClient,
    settings: Settings,
    query: LabelQuery,
    after: Place | None,
    floor: int | None,
    most: int,
) -> list[Labeled]:
    """Rows from the time ``floor`` on with a label that fits, under any version or the one that is asked for;
    one a row.
    """
    conditions, given = _conditions(query)
    conditions.append("row_id != ''")  # nobody can ask for such a row, nor for what is behind it
    if query.version is not None:
        conditions.append("label_version = {version:String}")
        given["version"] = query.version
    if floor is not None:
        conditions.append(time_is(">=", "floor"))
        given["floor"] = floor
    if after is not None:
        # The bare time too, so that the server can begin there.
        conditions.append(time_is("<=", "after_at"))
        conditions.append(
            "(created_at, row_id) < (fromUnixTimestamp64Micro({after_at:Int64}, 'UTC'), {after_id:String})"
        )
        given |= {"after_at": _micros(after.created_at), "after_id": after.row_id}
    return await messages_of(
        client,
        Labeled,
        f"{result_table(settings, LABELED)} WHERE {' AND '.join(conditions)}\n"
        "ORDER BY created_at DESC, row_id DESC LIMIT 1 BY created_at, row_id LIMIT {most:UInt32}",
        given | {"most": most},
    )


async def _counting(
    client: ClickHouseClient, settings: Settings, query: LabelQuery, candidates: Sequence[Labeled]
) -> list[Labeled]:
    """Those of the candidates' rows whose label that counts fits, with it."""
    found: list[Labeled] = []
    for some in bound_batches(candidates, lambda one: one.row_id):
        found += await _counting_of(client, settings, query, some)
    return found


async def _counting_of(
    client: ClickHouseClient, settings: Settings, query: LabelQuery, candidates: Sequence[Labeled]
) -> list[Labeled]:
    conditions, given = _conditions(query)
    rows = f"{time_is('>=', 'first')} AND {time_is('<=', 'last')} AND row_id IN {{ids:Array(String)}}"
    source = f"{result_table(settings, CURRENT)} WHERE {rows}"
    if query.version is not None:
        source = (
            f"(SELECT * FROM {result_table(settings, LABELED)}\n"
            f"WHERE {rows} AND label_version = {{version:String}}\n"
            f"ORDER BY {newest_first('labeled_at')} LIMIT 1 BY created_at, row_id) WHERE 1"
        )
        given["version"] = query.version
    places = {Place(one.created_at, one.row_id) for one in candidates}
    given |= {
        "first": _micros(candidates[-1].created_at),
        "last": _micros(candidates[0].created_at),
        "ids": sorted({place.row_id for place in places}),
    }
    labels = await messages_of(
        client,
        Labeled,
        f"{' AND '.join([source, *conditions])}\nORDER BY created_at DESC, row_id DESC",
        given,
    )
    return [one for one in labels if Place(one.created_at, one.row_id) in places]


def _conditions(query: LabelQuery) -> tuple[list[str], dict[str, Any]]:
    conditions: list[str] = []
    given: dict[str, Any] = {}
    for name, condition in (
        ("text", "positionCaseInsensitiveUTF8(text, {text:String}) > 0"),
        ("label", "label = {label:String}"),
        ("min_confidence", "confidence >= {min_confidence:Float64}"),
        ("max_confidence", "confidence <= {max_confidence:Float64}"),
    ):
        if (value := getattr(query, name)) is not None:
            conditions.append(condition)
            given[name] = value
    for name, comparison in (("since", ">="), ("until", "<")):
        if (at := getattr(query, name)) is not None:
            conditions.append(time_is(comparison, name))
            given[name] = _micros(at)
    return conditions, given


async def messages_of(
    client: ClickHouseClient, kind: type[L], source: str, given: dict[str, Any], *, skip_indexes: bool = True
) -> list[L]:
    """Messages from ``source``: a table and what follows it. Raises as `row_history`."""
    columns = columns_of(kind)
    names = [column.name for column in columns]
    selected = ", ".join(
        # As numbers: a driver's time would be one of the machine's zone.
        f"toUnixTimestamp64Micro({quoted(column.name)})" if column.type.startswith("DateTime64")
        # As plain types; a tuple's names would decide how the driver hands it over.
        else f"arrayMap(x -> (x.1, x.2), {quoted(column.name)})" if column.type.startswith("Array(Tuple")
        else quoted(column.name)
        for column in columns
    )  # fmt: skip
    times = {column.name for column in columns if column.type.startswith("DateTime64")}
    rows = await client.rows(f"SELECT {selected}\nFROM {source}", given, skip_indexes=skip_indexes)
    return [_message(kind, dict(zip(names, row, strict=True)), times) for row in rows]


def _message(kind: type[L], row: dict[str, Any], times: set[str]) -> L:
    """What is stored was checked when it was stored, but for what other tools wrote: that is shown as it is.
    What is no probability is left out, as it is nowhere else one.
    """
    for name in times:
        row[name] = moment(int(row[name]))
    for name in ("confidence", "confidence_raw"):
        row[name] = probability(row[name])
    likely = ((label, probability(chance)) for label, chance in row["alternatives"])
    row["alternatives"] = [
        Alternative.made(label=label, confidence=chance) for label, chance in likely if chance is not None
    ]
    if "rejected" in row:
        row["rejected"] = [RejectedVariant.made(text=text, reason=why) for text, why in row["rejected"]]
    return kind.made(**row)


def _micros(at: datetime) -> int:
    return micros_of(min(max(at, _FIRST), _LAST))
