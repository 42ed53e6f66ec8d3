"""What the review queue asks of the tables: unsure labels, the labels that there are, and the gold set."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.client.sql import result_table, time_is
from connectors.clickhouse.erasure.person import NOT_ERASED
from connectors.clickhouse.queries.draw import Audited
from connectors.clickhouse.queries.gold import ANSWERED, count_human_rows, with_answers
from connectors.clickhouse.queries.lookups import messages_of
from connectors.clickhouse.queries.places import AT_PLACES, index_helps, place_batches, time_of_newest
from connectors.clickhouse.schema.projections import DISTINCT_ROWS
from connectors.clickhouse.schema.tables import ANSWERS, CURRENT, LABELED
from streams.core.label_version import HUMAN, UNDONE
from streams.core.messages import Labeled
from streams.core.settings import Settings
from streams.core.times import moment
from streams.ports.lookups import Place
from streams.ports.review import ReviewCounts

# So many of the newest labels are looked at where a question is about all of them.
WINDOW = 100_000
_SINCE = time_is(">=", "since")
_NOT_HUMAN = f"(label_version != '{HUMAN}' OR endsWith(model, '{UNDONE}'))"
_UNSURE = 0.6


async def least_sure(
    client: ClickHouseClient, settings: Settings, most: int, audited: Audited | None = None
) -> list[Place]:
    """Rows about which no person gave an answer, the least sure first, at most ``most``.

    They are looked for among the newest 100,000 labels, and among more of them where those are too few.
    Without those of the audit: people answer these blindly.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    window = WINDOW
    condition, draw = ("1", {}) if audited is None else audited.others()
    while True:
        since = await time_of_newest(client, settings, window)
        bound = "" if since is None else f" AND {_SINCE}"
        rows = await client.rows(
            "SELECT toUnixTimestamp64Micro(created_at), row_id, toString(label_version)\n"
            f"FROM {result_table(settings, CURRENT)}\n"
            f"WHERE {_NOT_HUMAN}{bound} AND {condition} AND {NOT_ERASED}\n"
            "AND row_id != ''\n"  # written by another tool, and nobody can ask for such a row
            f"AND (created_at, row_id) NOT IN ({ANSWERED.format(result_table(settings, ANSWERS))})\n"
            "ORDER BY confidence ASC NULLS LAST, created_at DESC, row_id LIMIT {most:UInt32}",
            {**draw, "most": most, "since": since},
        )
        if since is None or len(rows) >= most:
            places = [Place(moment(int(at)), str(row_id)) for at, row_id, _ in rows]
            # One person's label may stand where another took theirs back.
            back = [place for place, (*_, version) in zip(places, rows, strict=True) if version == HUMAN]
            answered = await with_answers(client, settings, back)
            return [place for place in places if place not in answered]
        window *= 8


async def current_of(
    client: ClickHouseClient, settings: Settings, places: Sequence[Place], *, by_models: bool = False
) -> dict[Place, Labeled]:
    """The current labels of ``places``. ``by_models``: those with a human label are left out.

    Raises:
        UnavailableError, ConfigurationError: as the client.
    """
    found: list[Labeled] = []
    for _, given in place_batches(places):
        found += await messages_of(
            client,
            Labeled,
            f"{result_table(settings, CURRENT)}\nWHERE {AT_PLACES}",
            given,
            skip_indexes=index_helps(given),
        )
    wanted = set(places)
    at = {Place(one.created_at, one.row_id): one for one in found}
    return {place: one for place, one in at.items() if place in wanted and not (by_models and is_human(one))}


def is_human(one: Labeled) -> bool:
    """Whether a person's label stands."""
    return one.label_version == HUMAN and not one.model.endswith(UNDONE)


async def frequent_labels(client: ClickHouseClient, settings: Settings) -> list[str]:
    """Labels, the most frequent of the newest 100,000 first, at most 100. Raises as `least_sure`."""
    since = await time_of_newest(client, settings, WINDOW)
    rows = await client.rows(
        f"SELECT toString(label), count() AS n FROM {result_table(settings, LABELED)}\n"
        + ("" if since is None else f"WHERE {_SINCE}\n")
        + "GROUP BY label ORDER BY n DESC, label LIMIT 100",
        {"since": since},
    )
    return [str(label) for label, _ in rows]


async def review_counts(client: ClickHouseClient, settings: Settings) -> ReviewCounts:
    """How many rows have a human label, how many have none. Raises as `least_sure`.

    In a table of more than 100,000 labels, the rows are counted within two percent, and the unsure ones are
    estimated by their share among the newest 100,000.
    """
    since = await time_of_newest(client, settings, WINDOW)
    rows = await client.rows(
        f"SELECT countIf(NOT {_NOT_HUMAN}), countIf({_NOT_HUMAN}), "
        f"countIf({_NOT_HUMAN} AND confidence < {_UNSURE})\nFROM {result_table(settings, CURRENT)}"
        + ("" if since is None else f"\nWHERE {_SINCE}"),
        {"since": since},
    )
    labeled, waiting, unsure = (int(number) for number in rows[0])
    if since is None:
        return ReviewCounts(labeled, waiting, unsure)
    labeled = await count_human_rows(client, settings)
    all_rows = await client.rows(f"SELECT {DISTINCT_ROWS} FROM {result_table(settings, LABELED)}")
    share = unsure / waiting if waiting else 0.0
    waiting = max(waiting, int(all_rows[0][0]) - labeled)
    return ReviewCounts(labeled, waiting, round(share * waiting))
