"""What is counted of the labels of a time.

Each query reads a span of time, or the newest rows up to a limit: what they cost does not grow with the
table.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, result_table, time_is
from connectors.clickhouse.schema.tables import LABELED
from streams.core.label_version import HUMAN
from streams.core.settings import Settings

# Rows of files say nothing of the traffic.
LIVE = f"label_version != {literal(HUMAN)} AND NOT startsWith(row_id, 'upload:')"
_SPAN = f"{time_is('>=', 'begin')} AND {time_is('<', 'end')}"
# As the model reported it: a calibration is no drift.
_CONFIDENCE = "ifNull(confidence_raw, confidence)"
_MOST_LABELS, _MOST_TEXTS, _MOST_CHARACTERS = 1_000, 2_000, 2_000
_NEWEST = 5_000


class LabelCount(NamedTuple):
    """A label's rows; how many of them have a confidence, its sum and its sum of squares; and how many were
    labelled by a cascade's proxy, whose score is counted as the confidence.
    """

    label: str
    rows: int
    with_confidence: int
    confidence: float
    squares: float
    by_proxy: int = 0


async def count_labels(
    client: ClickHouseClient, settings: Settings, version: str, begin: int, end: int
) -> list[LabelCount]:
    """The labels of ``version`` from ``begin`` to before ``end``, microseconds since 1970.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found = await client.rows(
        f"SELECT toString(label), count(), count(c), sum(ifNull(c, 0)), sum(ifNull(c * c, 0)),\n"
        f"    countIf(by_proxy) FROM (\n"
        f"    SELECT label, {_CONFIDENCE} AS c, decided_by = 'proxy' AS by_proxy\n"
        f"    FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {_SPAN} AND {LIVE} AND label_version = {{version:String}}\n"
        f") GROUP BY 1 ORDER BY 2 DESC LIMIT {_MOST_LABELS}",
        {"version": version, "begin": begin, "end": end},
    )
    return [
        LabelCount(str(label), int(rows), int(sure), float(confidence), float(squares), int(by_proxy))
        for label, rows, sure, confidence, squares, by_proxy in found
    ]


async def sample_texts(
    client: ClickHouseClient, settings: Settings, begin: int, end: int, rows: int
) -> list[tuple[str, int]]:
    """Texts of some 2,000 rows of the time, whichever version labelled them, with how many rows have each.
    ``rows``: about how many there are. Raises as `count_labels`.
    """
    found = await client.rows(
        f"SELECT text, count() FROM (\n"
        f"    SELECT substringUTF8(text, 1, {_MOST_CHARACTERS}) AS text, row_id, created_at\n"
        f"    FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {_SPAN} AND {LIVE} AND cityHash64(row_id) % {{share:UInt32}} = 0\n"
        f"    LIMIT 1 BY created_at, row_id LIMIT {4 * _MOST_TEXTS}\n"
        ") GROUP BY text",
        {"begin": begin, "end": end, "share": max(1, rows // _MOST_TEXTS)},
    )
    return [(str(text), int(count)) for text, count in found]


async def newest_versions(client: ClickHouseClient, settings: Settings, now: int) -> dict[str, int]:
    """How many of the newest live labels up to ``now`` each version has. Raises as `count_labels`."""
    rows = await client.rows(
        f"SELECT toString(label_version), count() FROM (\n"
        f"    SELECT label_version FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {time_is('<=', 'now')} AND {LIVE} ORDER BY created_at DESC LIMIT {_NEWEST}\n"
        ") GROUP BY 1",
        {"now": now},
    )
    return {str(version): int(count) for version, count in rows}


async def labelled_span(
    client: ClickHouseClient, settings: Settings, version: str, begin: int, now: int
) -> tuple[int, int] | None:
    """The times of the oldest and the newest label of ``version`` from ``begin`` to ``now``; None without
    any. Raises as `count_labels`.
    """
    where = f"{time_is('>=', 'begin')} AND {time_is('<=', 'now')} AND {LIVE}"
    found: list[int] = []
    for version_is, order in (("1", "ASC"), ("label_version = {version:String}", "DESC")):
        given: dict[str, Any] = {"version": version, "begin": begin, "now": now}
        rows = await client.rows(
            f"SELECT toUnixTimestamp64Micro(created_at) FROM {result_table(settings, LABELED)}\n"
            f"WHERE {where} AND {version_is} ORDER BY created_at {order} LIMIT 1",
            given,
        )
        if not rows:
            return None
        found.append(int(rows[0][0]))
    return found[0], found[1]


async def lateness(client: ClickHouseClient, settings: Settings, until: int, most: float) -> float:
    """How many seconds after their time 99 % of the live rows of the hour before ``until`` (microseconds
    since 1970) were polled, of those that were within ``most`` seconds: others waited for a poller. 0 without
    any. Raises as `count_labels`.
    """
    rows = await client.rows(
        "SELECT quantileIf(0.99)(late, late <= {most:Float64}) FROM (\n"
        "    SELECT (toUnixTimestamp64Micro(polled_at) - toUnixTimestamp64Micro(created_at)) / 1e6 AS late\n"
        f"    FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {_SPAN} AND {LIVE}\n"
        ")",
        {"most": most, "begin": until - 3600 * 1_000_000, "end": until},
    )
    found = float(rows[0][0]) if rows else 0.0
    return max(found, 0.0) if math.isfinite(found) else 0.0
