"""The newest live rows before a time, to show of what drift is made."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.watching.drift_counts import LIVE
from connectors.clickhouse.schema.tables import LABELED
from streams.core.settings import Settings
from streams.core.times import moment


class LabelledText(NamedTuple):
    """A row. ``confidence``: as the model reported it; None without one."""

    row_id: str
    created_at: datetime
    text: str
    label: str
    confidence: float | None


async def newest_rows(
    client: ClickHouseClient,
    settings: Settings,
    version: str,
    begin: int,
    end: int,
    most: int,
    *,
    label: str | None = None,
) -> list[LabelledText]:
    """At most ``most`` rows that ``version`` labelled, the newest first, from ``begin`` to before ``end``,
    microseconds since 1970. ``label``: only rows that have it.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    given: dict[str, Any] = {"version": version, "begin": begin, "end": end, "most": most}
    where = f"{time_is('>=', 'begin')} AND {time_is('<', 'end')} AND {LIVE} AND {NOT_ERASED}"
    if label is not None:
        where += " AND label = {label:String}"
        given["label"] = label
    rows = await client.rows(
        "SELECT row_id, toUnixTimestamp64Micro(created_at), text, toString(label),\n"
        "    ifNull(confidence_raw, confidence)\n"
        f"FROM {result_table(settings, LABELED)}\n"
        f"WHERE {where} AND label_version = {{version:String}}\n"
        "ORDER BY created_at DESC LIMIT {most:UInt32}",
        given,
    )
    return [
        LabelledText(
            str(row_id),
            moment(int(micros)),
            str(text),
            str(label_),
            None if sure is None else float(sure),
        )
        for row_id, micros, text, label_, sure in rows
    ]
