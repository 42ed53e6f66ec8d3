"""How many variants kept the label of their row, of the rows whose variants were labelled."""

from __future__ import annotations

import time
from typing import NamedTuple

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import literal, result_table, time_is
from connectors.clickhouse.queries.places import newest_time, time_of_newest
from connectors.clickhouse.schema.tables import AUGMENTED
from streams.core.messages import LABEL_CHANGED
from streams.core.settings import Settings

_WEEK = 7 * 86_400 * 1_000_000
_MOST_ROWS = 1_000_000


class VerifiedVariants(NamedTuple):
    """Of one augmenting model and one label: all ``rows``, those ``verified``, the variants of these that
    ``kept`` their row's label and that ``changed`` it, and the ``calls`` that it took.
    """

    model: str
    label: str
    rows: int
    verified: int
    kept: int
    changed: int
    calls: int


async def verified_variants(
    client: ClickHouseClient, settings: Settings
) -> tuple[int | None, list[VerifiedVariants]]:
    """The variants of the newest week, of its newest 1,000,000 rows at most, and since when that is, in
    microseconds since 1970; None without rows.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    newest = await newest_time(client, settings, time.time_ns() // 1000)
    if newest is None:
        return None, []
    since = max(newest - _WEEK, await time_of_newest(client, settings, _MOST_ROWS) or 0)
    rows = await client.rows(
        "SELECT toString(augment_model) AS by_model, toString(label) AS of_label,\n"
        "    count(), count(verify_calls),\n"
        "    sumIf(length(variants), verify_calls IS NOT NULL),\n"
        f"    sumIf(countEqual(rejected.reason, {literal(LABEL_CHANGED)}), verify_calls IS NOT NULL),\n"
        "    sum(coalesce(verify_calls, 0))\n"
        f"FROM {result_table(settings, AUGMENTED)} WHERE {time_is('>=', 'since')}\n"
        "GROUP BY by_model, of_label ORDER BY by_model, of_label",
        {"since": since},
    )
    return since, [VerifiedVariants(str(model), str(label), *map(int, more)) for model, label, *more in rows]
