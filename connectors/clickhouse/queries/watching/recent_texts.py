"""A sample of the texts of the last days, with their labels, to look for what is new among them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.places import newest_time
from connectors.clickhouse.schema.tables import CURRENT, LABELED
from streams.core.label_version import HUMAN
from streams.core.settings import Settings

_DAY = 86_400 * 1_000_000
# Rows that are looked at; of more, those of a part of the texts.
_MOST_ROWS = 500_000


class RecentText(NamedTuple):
    """A text and how many rows have it: ``now``, and in as many days ``before``. ``label`` and ``confidence``
    (mean) are its rows' current ones, ``row_id`` its newest row. ``doubtful``: it is unsure, or is labelled
    as none of the other labels.
    """

    text: str
    label: str
    confidence: float | None
    row_id: str
    now: int
    before: int
    doubtful: bool


class RecentTexts(NamedTuple):
    """``texts``: at most so many doubtful ones as were asked for, and as many others. ``rows``: all rows of
    the days, ``doubtful`` of them. ``since``, ``between``, ``until``: microseconds since 1970; the window
    before begins ``since``, the present one at ``between``. ``share``: of the doubtful texts in ``texts``;
    ``share_of_others``: of the others.
    """

    texts: Sequence[RecentText]
    rows: int
    doubtful: int
    since: int
    between: int
    until: int
    share: float
    share_of_others: float


async def recent_texts(
    client: ClickHouseClient,
    settings: Settings,
    *,
    days: float,
    unsure: float,
    others: Collection[str],
    most: int,
) -> RecentTexts | None:
    """The texts of ``days`` up to the newest row, and of as many days before; None without rows.

    ``unsure``: a confidence below it is. ``others``: labels that mean that none fits, in lower case. Rows
    that people labelled are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    until = await newest_time(client, settings, time.time_ns() // 1000)
    if until is None:
        return None
    between = until - int(days * _DAY)
    given: dict[str, object] = {
        "since": between - int(days * _DAY),
        "between": between,
        "until": until,
        "unsure": unsure,
        "others": sorted(others),
        "most": most,
    }
    window = f"{time_is('>', 'since')} AND {time_is('<=', 'until')}"
    counted = await client.rows(
        f"SELECT count() FROM {result_table(settings, LABELED)} WHERE {window}", given
    )
    every = -(-int(counted[0][0]) // _MOST_ROWS)
    present = time_is(">", "between")
    rows = await client.rows(
        "SELECT text, argMax(toString(label), created_at) AS its_label, avg(confidence) AS sure,\n"
        f"    argMax(row_id, created_at), countIf({present}) AS rows_now, count() - rows_now,\n"
        "    lower(its_label) IN {others:Array(String)} OR ifNull(sure < {unsure:Float64}, false)\n"
        "        AS in_doubt,\n"
        "    sum(rows_now) OVER (), sumIf(rows_now, in_doubt) OVER (), count() OVER (PARTITION BY in_doubt)\n"
        f"FROM {result_table(settings, CURRENT)}\n"
        f"WHERE {window} AND label_version != {literal(HUMAN)} AND {NOT_ERASED}\n"
        "    AND cityHash64(text) % {every:UInt32} = 0\n"
        "GROUP BY text ORDER BY cityHash64(text, 1) LIMIT {most:UInt32} BY in_doubt",
        {**given, "every": max(every, 1)},
    )
    texts = [
        RecentText(
            str(text),
            str(label),
            None if confidence is None else float(confidence),
            str(row_id),
            int(now),
            int(before),
            bool(doubtful),
        )
        for text, label, confidence, row_id, now, before, doubtful, *_ in rows
    ]
    found = {bool(row[6]): int(row[9]) for row in rows}
    taken = Counter(one.doubtful for one in texts)
    return RecentTexts(
        texts,
        max(every, 1) * (int(rows[0][7]) if rows else 0),
        max(every, 1) * (int(rows[0][8]) if rows else 0),
        int(between - days * _DAY),
        between,
        until,
        *(taken[kind] / found[kind] / max(every, 1) if found.get(kind) else 1.0 for kind in (True, False)),
    )
