"""The numbers of the overview that come from the tables; each look is one short question."""

from __future__ import annotations

from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table
from connectors.clickhouse.schema.tables import CURRENT, DEAD_LETTERS, LABELED, STORED
from streams.core.settings import Settings
from streams.ports.page import LabelPicture

_DAY = 86_400 * 1_000_000
_MOST_LABELS = 60
_SAMPLE = 100_000
BINS = 20


async def table_sizes(client: ClickHouseClient, settings: Settings) -> dict[str, int]:
    """How many rows each result table holds; the server knows without reading.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    counts = ", ".join(f"(SELECT count() FROM {result_table(settings, table)})" for table in STORED)
    rows = await client.rows(f"SELECT {counts}")
    return dict(zip(STORED, (int(number) for number in rows[0]), strict=True))


async def letter_reasons(client: ClickHouseClient, settings: Settings) -> list[tuple[str, str, int]]:
    """Step, reason and count of the most frequent twenty."""
    rows = await client.rows(
        f"SELECT toString(step), toString(reason), count() AS n FROM {result_table(settings, DEAD_LETTERS)}\n"
        f"GROUP BY step, reason ORDER BY n DESC, step, reason LIMIT 20"
    )
    return [(str(step), str(reason), int(count)) for step, reason, count in rows]


async def label_picture(client: ClickHouseClient, settings: Settings, now: int) -> LabelPicture | None:
    """Current labels of the last day against the seven days before it; None while there are none.

    ``now``: microseconds since 1970. Where the newest row is older the day ends with that row.
    Of more than 200,000 labels the numbers are estimated by a sample.
    """
    newest = await client.rows(
        f"SELECT toUnixTimestamp64Micro(created_at) FROM {result_table(settings, LABELED)}\n"
        "WHERE created_at <= fromUnixTimestamp64Micro({now:Int64}, 'UTC')\n"
        f"ORDER BY created_at DESC LIMIT 1",
        {"now": now},
    )
    if not newest:
        return None
    until = int(newest[0][0])
    given: dict[str, Any] = {"until": until, "day": until - _DAY, "week": until - 8 * _DAY}
    since = "created_at {} fromUnixTimestamp64Micro({{{}:Int64}}, 'UTC')"
    span = f"{since.format('>', 'week')} AND {since.format('<=', 'until')}"
    sample, scale = await _sample(client, settings, span, given)
    span += sample
    labels = await client.rows(
        f"SELECT toString(label), countIf({since.format('>', 'day')}) AS recent, count() - recent AS before\n"
        f"FROM {result_table(settings, CURRENT)} WHERE {span}\n"
        f"GROUP BY label ORDER BY recent DESC, before DESC, label LIMIT {_MOST_LABELS}",
        given,
    )
    bins = [0] * BINS
    for number, count in await client.rows(
        f"SELECT least(toInt32(floor(assumeNotNull(confidence) * {BINS})), {BINS - 1}) AS bin, count()\n"
        f"FROM {result_table(settings, CURRENT)}\n"
        f"WHERE {since.format('>', 'day')} AND {since.format('<=', 'until')}{sample}\n"
        "    AND confidence IS NOT NULL\n"
        f"GROUP BY bin",
        given,
    ):
        bins[max(0, int(number))] = round(int(count) * scale)
    return LabelPicture(
        until,
        [
            (str(label), round(int(recent) * scale), round(int(before) * scale))
            for label, recent, before in labels
        ],
        bins,
    )


async def _sample(
    client: ClickHouseClient, settings: Settings, span: str, given: dict[str, Any]
) -> tuple[str, float]:
    """A condition that leaves some 100,000 labels of ``span``, by whole minutes, so that the others are not
    read; and how many labels each of them stands for.
    """
    count = f"SELECT count() FROM {result_table(settings, LABELED)} WHERE {span}"
    total = int((await client.rows(count, given))[0][0])
    if total <= 2 * _SAMPLE:
        return "", 1.0
    sample = f" AND cityHash64(intDiv(toUnixTimestamp64Micro(created_at), 60000000)) % {total // _SAMPLE} = 0"
    taken = int((await client.rows(count + sample, given))[0][0])
    return (sample, total / taken) if taken else ("", 1.0)
