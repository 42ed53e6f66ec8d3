"""Days by the server's calendar, as `today() - days` in the requirements' SQL."""

from __future__ import annotations

from connectors.clickhouse.client.client import ClickHouseClient

# Date holds days from 1970 on.
_MOST_DAYS = 20_000


async def begin_of(client: ClickHouseClient, days: int) -> int:
    """The first moment of the day ``days`` before today, in microseconds since 1970.

    Raises:
        UnavailableError, AccessError.
    """
    rows = await client.rows(
        "SELECT toUnixTimestamp64Micro(toDateTime64(today() - {days:UInt32}, 6))",
        {"days": min(days, _MOST_DAYS)},
    )
    return int(rows[0][0])
