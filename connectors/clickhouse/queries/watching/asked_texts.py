"""Rows whose texts are asked again, drawn at random."""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table, time_is
from connectors.clickhouse.queries.watching.drift_counts import LIVE
from connectors.clickhouse.schema.tables import LABELED
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.lookups import Place

# Rows among which the texts to be asked are looked for.
_RECENT_ROWS = 20_000


async def recent_texts(
    client: ClickHouseClient, settings: Settings, version: str, now: int, most: int
) -> tuple[list[Place], bool]:
    """Rows with different texts, drawn at random among the newest 20,000 of ``version``, each text as likely
    as any other; and whether there are so many rows. Raises as `count_labels`.
    """
    rows = await client.rows(
        f"SELECT argMax(row_id, created_at), toUnixTimestamp64Micro(max(created_at)), sum(count()) OVER ()\n"
        f"FROM (\n"
        f"    SELECT row_id, created_at, text FROM {result_table(settings, LABELED)}\n"
        f"    WHERE {time_is('<=', 'now')} AND {LIVE} AND label_version = {{version:String}}\n"
        f"    ORDER BY created_at DESC LIMIT {_RECENT_ROWS}\n"
        ") GROUP BY text ORDER BY sipHash64(text) LIMIT {most:UInt32}",
        {"version": version, "now": now, "most": most},
    )
    places = [Place(moment(int(at)), str(row_id)) for row_id, at, _ in rows]
    return places, bool(rows) and int(rows[0][2]) >= _RECENT_ROWS
