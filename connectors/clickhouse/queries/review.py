"""What the review queue asks of the tables: unsure labels, the labels that there are, and the gold set."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import bound_batches, result_table
from connectors.clickhouse.queries.lookups import messages_of
from connectors.clickhouse.schema.newest import newness
from connectors.clickhouse.schema.tables import CURRENT, LABELED
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import Labeled
from streams.core.settings import Settings
from streams.core.times import micros_of, moment
from streams.ports.lookups import Place
from streams.ports.review import GoldLabel, ReviewCounts

_PAGE = 5_000
_NOT_HUMAN = f"(label_version != '{HUMAN}' OR endsWith(model, '{UNDONE}'))"
_UNSURE = 0.6


async def least_sure(client: ClickHouseClient, settings: Settings, most: int) -> list[Place]:
    """Rows whose current label no person gave, the least sure first, at most ``most``.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    rows = await client.rows(
        "SELECT toUnixTimestamp64Micro(created_at), row_id\n"
        f"FROM {result_table(settings, CURRENT)} WHERE {_NOT_HUMAN}\n"
        f"ORDER BY confidence ASC NULLS LAST, created_at DESC, row_id LIMIT {{most:UInt32}}",
        {"most": most},
    )
    return [Place(moment(int(at)), str(row_id)) for at, row_id in rows]


async def current_of(
    client: ClickHouseClient, settings: Settings, places: Sequence[Place], *, by_models: bool = False
) -> dict[Place, Labeled]:
    """The current labels of ``places``. ``by_models``: those with a human label are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: list[Labeled] = []
    for some in bound_batches(places, lambda place: place.row_id):
        micros = [micros_of(place.created_at) for place in some]
        given: dict[str, Any] = {
            "first": min(micros),
            "last": max(micros),
            "ids": sorted({place.row_id for place in some}),
        }
        found += await messages_of(
            client,
            Labeled,
            f"{result_table(settings, CURRENT)}\n"
            "WHERE created_at >= fromUnixTimestamp64Micro({first:Int64}, 'UTC')\n"
            "    AND created_at <= fromUnixTimestamp64Micro({last:Int64}, 'UTC')\n"
            "    AND row_id IN {ids:Array(String)}",
            given,
        )
    wanted = set(places)
    at = {Place(one.created_at, one.row_id): one for one in found}
    return {place: one for place, one in at.items() if place in wanted and not (by_models and is_human(one))}


def is_human(one: Labeled) -> bool:
    """Whether a person's label stands."""
    return one.label_version == HUMAN and not one.model.endswith(UNDONE)


async def frequent_labels(client: ClickHouseClient, settings: Settings) -> list[str]:
    """Labels, the most frequent first, at most 100. Raises as `least_sure`."""
    rows = await client.rows(
        f"SELECT toString(label), count() AS n FROM {result_table(settings, LABELED)}\n"
        f"GROUP BY label ORDER BY n DESC, label LIMIT 100"
    )
    return [str(label) for label, _ in rows]


async def review_counts(client: ClickHouseClient, settings: Settings) -> ReviewCounts:
    """How many rows have a human label, how many have none. Raises as `least_sure`."""
    rows = await client.rows(
        f"SELECT countIf(NOT {_NOT_HUMAN}), countIf({_NOT_HUMAN}), "
        f"countIf({_NOT_HUMAN} AND confidence < {_UNSURE})\nFROM {result_table(settings, CURRENT)}"
    )
    labeled, waiting, unsure = rows[0]
    return ReviewCounts(int(labeled), int(waiting), int(unsure))


async def gold_labels(client: ClickHouseClient, settings: Settings) -> AsyncIterator[GoldLabel]:
    """The last human label of each row, those taken back left out, by row time. Raises as `least_sure`."""
    after: tuple[int, str] = (-(2**62), "")
    while True:
        rows = await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at) AS micros, row_id,\n"
            "    argMax(tuple(text, toString(label), toString(model), "
            f"toUnixTimestamp64Micro(labeled_at)), {newness('labeled_at')}) AS last\n"
            f"FROM {result_table(settings, LABELED)}\n"
            f"WHERE label_version = '{HUMAN}' AND (micros, row_id) > ({{at:Int64}}, {{id:String}})\n"
            "GROUP BY created_at, row_id ORDER BY created_at, row_id LIMIT {most:UInt32}",
            {"at": after[0], "id": after[1], "most": _PAGE},
        )
        for at, row_id, last in rows:
            text, label, model, labeled_at = last.values() if isinstance(last, dict) else last
            if not model.endswith(UNDONE):
                who = model.removeprefix(f"{HUMAN}:")
                yield GoldLabel(row_id, moment(int(at)), text, label, who, moment(int(labeled_at)))
        if len(rows) < _PAGE:
            return
        after = (int(rows[-1][0]), str(rows[-1][1]))


async def labels_under(
    client: ClickHouseClient, settings: Settings, version: str, row_ids: Sequence[str]
) -> dict[str, dict[datetime, str]]:
    """The labels of ``version`` of rows with these ids, by id and time. Raises as `least_sure`."""
    found: dict[str, dict[datetime, str]] = {}
    ids = sorted(set(row_ids))
    for some in bound_batches(ids, str):
        rows = await client.rows(
            "SELECT row_id, toUnixTimestamp64Micro(created_at), "
            f"argMax(toString(label), {newness('labeled_at')})\n"
            f"FROM {result_table(settings, LABELED)}\n"
            "WHERE label_version = {version:String} AND row_id IN {ids:Array(String)}\n"
            f"GROUP BY row_id, created_at",
            {"version": version, "ids": some},
        )
        for row_id, at, label in rows:
            found.setdefault(str(row_id), {})[moment(int(at))] = str(label)
    return found


async def labels_of_texts(
    client: ClickHouseClient, settings: Settings, version: str, texts: Sequence[str]
) -> dict[str, str]:
    """The newest label of ``version`` of each text. Raises as `least_sure`."""
    found: dict[str, str] = {}
    for some in bound_batches(sorted(set(texts)), str):
        rows = await client.rows(
            f"SELECT text, argMax(toString(label), {newness('labeled_at')})\n"
            f"FROM {result_table(settings, LABELED)}\n"
            "WHERE label_version = {version:String} AND text IN {texts:Array(String)}\n"
            "GROUP BY text",
            {"version": version, "texts": some},
        )
        found |= {str(text): str(label) for text, label in rows}
    return found
