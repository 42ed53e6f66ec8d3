"""Rows that a version under trial has labelled, or is to label."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches
from connectors.clickhouse.schema.tables import LABELED
from streams.core.messages import Row
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.lookups import Place


async def newest_places(client: ClickHouseClient, settings: Settings, version: str, most: int) -> list[Place]:
    """At most ``most`` rows that have a label of ``version``, about the newest ones.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    table = result_table(settings, LABELED)
    ((count, first, last),) = await client.rows(
        # As the projection `label_places` has it. So nothing outside of the version's own time is read.
        "SELECT count(), toUnixTimestamp64Micro(min(created_at)), toUnixTimestamp64Micro(max(created_at))\n"
        f"FROM {table} WHERE label_version = {{version:String}}",
        {"version": version},
    )
    if not int(count):
        return []
    rows = await client.rows(
        f"SELECT DISTINCT toUnixTimestamp64Micro(created_at), row_id FROM (\n"
        f"    SELECT created_at, row_id FROM {table}\n"
        f"    WHERE label_version = {{version:String}} AND {time_is('>=', 'first')}"
        f" AND {time_is('<=', 'last')}\n"
        "    ORDER BY created_at DESC LIMIT {most:UInt64})",
        {"version": version, "first": int(first), "last": int(last), "most": most},
    )
    return [Place(moment(int(at)), str(row_id)) for at, row_id in rows]


async def rows_at(
    client: ClickHouseClient, settings: Settings, version: str, places: Sequence[Place]
) -> list[Row]:
    """The rows at ``places`` that have a label of ``version``, erased ones left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: dict[Place, Row] = {}
    for some, given in place_batches(places):
        wanted = set(some)
        for row_id, text, at, user, session, domain, polled in await client.rows(
            "SELECT row_id, text, toUnixTimestamp64Micro(created_at), user_id, session_id, source_domain,\n"
            f"    toUnixTimestamp64Micro(polled_at) FROM {result_table(settings, LABELED)}\n"
            f"WHERE label_version = {{version:String}} AND {AT_PLACES} AND {NOT_ERASED}\n"
            "LIMIT 1 BY created_at, row_id",
            {"version": version, **given},
            skip_indexes=index_helps(given),
        ):
            place = Place(moment(int(at)), str(row_id))
            if place in wanted:
                found[place] = Row.model_construct(
                    row_id=place.row_id,
                    text=text,
                    created_at=place.created_at,
                    user_id=user,
                    session_id=session,
                    source_domain=domain,
                    polled_at=moment(int(polled)),
                )
    return list(found.values())
