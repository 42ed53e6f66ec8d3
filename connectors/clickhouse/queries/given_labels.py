"""The labels that a version gave to certain rows, to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, probability, result_table, time_is, tuple_of
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import LABELED
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.lookups import Place

# Labels whose texts are compared at once, a part of a second each.
_AT_ONCE = 4_000_000
# Labels whose times tell where to cut.
_SAMPLE = 1_000_000
_SPAN = f"{time_is('>=', 'begin')} AND {time_is('<', 'end')}"
_OWN = (
    "toString(label), confidence, toString(source_domain), confidence_raw, calibration, "
    "decided_by = 'proxy', toUnixTimestamp64Micro(labeled_at)"
)
_LABEL = f"{_OWN}, arrayMap(one -> one.2, alternatives)"
# Without the others, which are more than all else that is read of a label.
_ALONE = f"{_OWN}, CAST([], 'Array(Float64)')"


class GivenLabel(NamedTuple):
    """A row's label. ``confidence``: 0 to 1; None if there is none. ``confidence_raw``: as the model reported
    it. ``calibration``: the generation that made ``confidence`` and ``others`` of it; None if they are as
    reported. ``others``: the other labels' probabilities, and ``text``: empty and None if not asked for.
    ``by_proxy``: whether the cascade's proxy decided, whose score ``confidence`` is then. ``labeled_at``: in
    microseconds since 1970.
    """

    created_at: datetime
    label: str
    confidence: float | None
    source_domain: str | None
    confidence_raw: float | None = None
    calibration: int | None = None
    others: tuple[float, ...] = ()
    text: str | None = None
    by_proxy: bool = False
    labeled_at: int = 0


async def labels_at(
    client: ClickHouseClient,
    settings: Settings,
    version: str,
    places: Sequence[Place],
    *,
    with_text: bool = False,
    with_others: bool = True,
) -> dict[Place, GivenLabel]:
    """The newest labels of ``version`` of these rows, those without one left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found = await labels_of_versions(
        client, settings, [version], places, with_text=with_text, with_others=with_others
    )
    return found[version]


async def labels_of_versions(
    client: ClickHouseClient,
    settings: Settings,
    versions: Sequence[str],
    places: Sequence[Place],
    *,
    with_text: bool = False,
    with_others: bool = True,
) -> dict[str, dict[Place, GivenLabel]]:
    """As `labels_at`, of each of ``versions``: the same pieces of the table are read for one and for all."""
    found: dict[str, dict[Place, GivenLabel]] = {version: {} for version in versions}
    told = (_LABEL if with_others else _ALONE) + (", text" if with_text else "")
    for some, given in place_batches(places):
        rows = await client.rows(
            "SELECT toString(label_version) AS version, row_id, toUnixTimestamp64Micro(created_at), "
            f"argMax(tuple({told}), {newness('labeled_at')})\n"
            f"FROM {result_table(settings, LABELED)}\n"
            f"WHERE label_version IN {{versions:Array(String)}} AND {AT_PLACES}\n"
            "GROUP BY version, row_id, created_at",
            {"versions": list(versions), **given},
            skip_indexes=index_helps(given),
        )
        wanted = set(some)
        for version, row_id, at, last in rows:
            place = Place(moment(int(at)), str(row_id))
            if place in wanted:
                found[version][place] = _given(place.created_at, last)
    return found


async def labels_of_texts(
    client: ClickHouseClient, settings: Settings, version: str, texts: Sequence[str]
) -> dict[str, GivenLabel]:
    """The newest label of ``version`` of each text. Raises as `labels_at`.

    Of more than 4,000,000 labels the newest rows are looked at first, so many at once, and the older ones
    only for those texts that were not found: no query reads all texts.
    """
    found: dict[str, GivenLabel] = {}
    for begin, end in await _spans(client, settings) if texts else ():
        left = sorted(set(texts) - found.keys())
        for some in bound_batches(left, str):
            rows = await client.rows(
                "SELECT text, argMax(tuple(toUnixTimestamp64Micro(created_at), "
                f"{_LABEL}), {newness('labeled_at')})\n"
                f"FROM {result_table(settings, LABELED)}\n"
                "WHERE label_version = {version:String} AND text IN {texts:Array(String)}\n"
                f"    AND {_SPAN}\nGROUP BY text",
                {"version": version, "texts": some, "begin": begin, "end": end},
            )
            for text, last in rows:
                at, *label = tuple_of(last)
                found[str(text)] = _given(moment(int(at)), (*label, text))
    return found


async def first_of_texts(
    client: ClickHouseClient, settings: Settings, texts: Sequence[str]
) -> dict[str, Place]:
    """The first labelled row with each text: the same one whatever comes later. Raises as `labels_at`.

    As `labels_of_texts`, the oldest rows first.
    """
    found: dict[str, Place] = {}
    for begin, end in reversed(list(await _spans(client, settings)) if texts else []):
        for some in bound_batches(sorted(set(texts) - found.keys()), str):
            rows = await client.rows(
                "SELECT text, toUnixTimestamp64Micro(min(created_at)), "
                "argMin(row_id, (created_at, row_id))\n"
                f"FROM {result_table(settings, LABELED)} WHERE text IN {{texts:Array(String)}} AND {_SPAN}\n"
                "GROUP BY text",
                {"texts": some, "begin": begin, "end": end},
            )
            found |= {str(text): Place(moment(int(at)), str(row_id)) for text, at, row_id in rows}
    return found


async def _spans(client: ClickHouseClient, settings: Settings) -> Iterator[tuple[int, int]]:
    """The rows' times in spans of some _AT_ONCE labels, the newest first: microseconds, begin and end.

    Equal in labels, up to a few percent, and not in time: one row of the year 1970 would leave all others in
    one span.
    """
    table = result_table(settings, LABELED)
    ((count, first, last),) = await client.rows(
        "SELECT count(), toUnixTimestamp64Micro(min(created_at)), toUnixTimestamp64Micro(max(created_at))\n"
        f"FROM {table}"
    )
    edges = {int(first), int(last) + 1}
    pieces = int(count) // _AT_ONCE + 1
    if pieces > 1:
        levels = ", ".join(str(piece / pieces) for piece in range(1, pieces))
        ((cuts,),) = await client.rows(
            f"SELECT quantiles({levels})(toUnixTimestamp64Micro(created_at)) FROM {table}\n"
            f"WHERE rand() % {int(count) // _SAMPLE + 1} = 0"
        )
        edges |= {int(cut) for cut in cuts}
    ordered = sorted(edges, reverse=True)
    return ((begin, end) for end, begin in pairwise(ordered))


def _given(at: datetime, last: Any) -> GivenLabel:
    label, confidence, domain, raw, calibration, by_proxy, labeled_at, others, *text = tuple_of(last)
    return GivenLabel(
        at,
        str(label),
        probability(confidence),
        domain,
        probability(raw),
        calibration,
        tuple(one for one in others if probability(one) is not None),
        text[0] if text else None,
        bool(by_proxy),
        int(labeled_at),
    )
