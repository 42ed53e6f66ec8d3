"""The numbers of the overview that come from the tables; each look is one short question."""

from __future__ import annotations

from collections import Counter
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table, time_is
from connectors.clickhouse.queries.places import newest_time
from connectors.clickhouse.schema.tables import CURRENT, DEAD_LETTERS, LABELED, STORED
from streams.core.settings import Settings
from streams.ports.page import LabelPicture

_DAY = 86_400 * 1_000_000
_MOST_LABELS = 60
_SAMPLE = 50_000
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
    until = await newest_time(client, settings, now)
    if until is None:
        return None
    given: dict[str, Any] = {"until": until, "day": until - _DAY, "week": until - 8 * _DAY}
    span = f"{time_is('>', 'week')} AND {time_is('<=', 'until')}"
    sample, scale = await _sample(client, settings, span, given)
    span += sample
    recent, before, bins, decided = Counter[str](), Counter[str](), [0] * BINS, Counter[str]()
    # One look for all: by label, by step of the confidence (-1 where there is none), by who decided, and by
    # whether it is of the day.
    for label, of_day, step, decider, count in await client.rows(
        f"SELECT toString(label), {time_is('>', 'day')} AS of_day,\n"
        f"    if(confidence IS NULL, -1,\n"
        f"        least(toInt32(floor(ifNull(confidence, 0) * {BINS})), {BINS - 1})) AS step,\n"
        f"    if(cached AND decided_by = 'llm', 'cache', toString(decided_by)) AS decider, count()\n"
        f"FROM {result_table(settings, CURRENT)} WHERE {span} GROUP BY label, of_day, step, decider",
        given,
    ):
        (recent if of_day else before)[str(label)] += int(count)
        if of_day:
            decided[str(decider)] += int(count)
        if of_day and step is not None and int(step) >= 0:
            bins[int(step)] += int(count)
    names = sorted({*recent, *before}, key=lambda name: (-recent[name], -before[name], name))
    return LabelPicture(
        until,
        [(name, round(recent[name] * scale), round(before[name] * scale)) for name in names[:_MOST_LABELS]],
        [round(count * scale) for count in bins],
        {name: round(count * scale) for name, count in decided.items()},
    )


async def _sample(
    client: ClickHouseClient, settings: Settings, span: str, given: dict[str, Any]
) -> tuple[str, float]:
    """A condition that leaves some 50,000 labels of ``span``, by whole minutes, so that the others are not
    read; and how many labels each of them stands for.
    """
    count = f"SELECT count() FROM {result_table(settings, LABELED)} WHERE {span}"
    total = int((await client.rows(count, given))[0][0])
    if total <= 4 * _SAMPLE:
        return "", 1.0
    sample = f" AND cityHash64(intDiv(toUnixTimestamp64Micro(created_at), 60000000)) % {total // _SAMPLE} = 0"
    taken = int((await client.rows(count + sample, given))[0][0])
    return (sample, total / taken) if taken else ("", 1.0)
