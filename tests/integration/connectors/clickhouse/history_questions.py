"""What commands, the page, the API and the roles ask of the tables: see ``history_scale.py``."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.dead_letters import list_letters
from connectors.clickhouse.queries.draw import KnownDraws
from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.label_versions import list_versions
from connectors.clickhouse.queries.labelled_rows import busiest_minute, count_of, labelled, labelled_between
from connectors.clickhouse.queries.lookups import row_history, search_labels
from connectors.clickhouse.queries.open_dead_letters import open_letters
from connectors.clickhouse.queries.overview import label_picture, letter_reasons, table_sizes
from connectors.clickhouse.queries.places import times_of
from connectors.clickhouse.queries.relabel_rows import Condition, LabelledRows
from connectors.clickhouse.queries.review import (
    current_of,
    frequent_labels,
    least_sure,
    review_counts,
)
from connectors.clickhouse.queries.version_diff import diff_versions
from connectors.clickhouse.sink.stored_offsets import stored_offsets
from streams.api.quality import picture
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.operations.dead_letters import list_dead_letters
from streams.operations.status import status
from streams.ports.lookups import LabelQuery
from streams.quality.audit import draw_rows
from streams.quality.evaluate import EvaluationQuery, evaluate_tables
from tests.integration.connectors.clickhouse.history_tables import (
    ANSWERS,
    AUGMENTED,
    LABELED,
    LETTERS,
    PARTITIONS,
    UNUSED,
    time_of,
)

FOREVER = 2**62

Ask = Callable[[ClickHouseClient, Settings], Awaitable[Any]]


def asked(rows: int) -> dict[str, Ask]:
    """Each question, by name. What is asked of the newest rows is asked as when the history ended: rows that
    were labelled by the roles are later.
    """
    topic_end, middle, end = rows // PARTITIONS, time_of(rows // 2), time_of(rows)
    gold = [str(number * (rows // ANSWERS) + 11) for number in range(ANSWERS)]
    micros = int(middle.timestamp()) * 1_000_000
    known = KnownDraws()

    def kept() -> KnownDraws:
        return known

    def held(table: str, topic: uuid.UUID, start: int) -> Ask:
        spans = dict.fromkeys(range(PARTITIONS), (start, FOREVER))
        return lambda client, settings: stored_offsets(client, settings.result_database, table, topic, spans)

    def found(**query: Any) -> Ask:
        return lambda client, settings: search_labels(client, settings, LabelQuery(**query), None, 50)

    def first_page(*where: str) -> Ask:
        async def ask(client: ClickHouseClient, settings: Settings) -> None:
            conditions = [Condition.parse(one) for one in where]
            feed = LabelledRows(client, settings, since=None, until=None, where=conditions)
            await feed.count()
            async with contextlib.aclosing(feed.pages()) as pages:
                await anext(pages)

        return ask

    async def claimed(client: ClickHouseClient, settings: Settings) -> None:
        await current_of(client, settings, (await least_sure(client, settings, 500))[:20], by_models=True)

    async def judged(client: ClickHouseClient, settings: Settings) -> None:
        found = await labels_at(client, settings, "v1", await times_of(client, settings, gold))
        assert len(found) == ANSWERS

    async def imported(client: ClickHouseClient, settings: Settings) -> None:
        found = await current_of(client, settings, await times_of(client, settings, gold))
        assert len(found) == ANSWERS

    async def answered(client: ClickHouseClient, settings: Settings) -> None:
        found = await evaluate_tables(client, settings, EvaluationQuery("v1"), {})
        assert found["labeled"] == ANSWERS, found

    async def pictured(client: ClickHouseClient, settings: Settings) -> None:
        await picture(client, settings, EvaluationQuery(None, "week"), {})

    def drawn(each: int, known: Callable[[], KnownDraws]) -> Ask:
        async def ask(client: ClickHouseClient, settings: Settings) -> None:
            settings = settings.model_copy(update={"review_audit_per_label": each})
            await draw_rows(client, settings, end, 2_000, known())

        return ask

    async def opened(client: ClickHouseClient, settings: Settings) -> None:
        async with contextlib.aclosing(open_letters(client, settings, limit=100)) as pages:
            await anext(pages)

    return {
        "takeover: sink at its commit": held("logs_labeled", LABELED, topic_end),
        "takeover: shadow topic, never used": held("logs_labeled", UNUSED, 0),
        "sink start, offsets expired: labels": held("logs_labeled", LABELED, 0),
        "sink start, offsets expired: variants": held("logs_augmented", AUGMENTED, 0),
        "sink start, offsets expired: letters": held("dead_letters", LETTERS, 0),
        "replay start from the table": first_page(),
        "replay start --where label": first_page("label=label3"),
        "replay start: version known": lambda c, s: count_of(c, s, "v2"),
        "replay --dry-run: rate": busiest_minute,
        "backfill start": lambda c, s: labelled_between(c, s, micros, micros + 600_000_000, lambda *_: None),
        "replay: what is labelled": lambda c, s: labelled(c, s, "v1", [(gold[9], micros)]),
        "status": lambda c, s: status(s),
        "versions": lambda c, s: list_versions(c, s, counted=True),
        "versions, states": list_versions,
        "versions diff": lambda c, s: diff_versions(c, s, "v1", "v2", changed=10),
        "evaluate, a file of 5,000 ids": judged,
        "gold import, a file of 5,000 ids": imported,
        "evaluate, 5,000 answers": answered,
        "page: quality, 5,000 answers": pictured,
        "dead-letters list": lambda c, s: list_dead_letters(s, reason=None, step=None, since=None, limit=100),
        "dead-letters retry of 100": opened,
        "page: table sizes": table_sizes,
        "page: letters by reason": letter_reasons,
        "page: labels of a day": lambda c, s: label_picture(c, s, micros_of(end)),
        "page: letters": lambda c, s: list_letters(c, s, limit=100),
        "review: claim": claimed,
        "review: counts": review_counts,
        "review: the first draw of a process": drawn(0, KnownDraws),
        "review: the first draw, 30 of each label": drawn(30, KnownDraws),
        "review: the audit's draw": drawn(0, kept),
        "review: the audit's draw, 30 of each label": drawn(30, kept),
        "review: choices": frequent_labels,
        "GET /rows/ID": lambda c, s: row_history(c, s, str(rows // 2)),
        "GET /rows/ID, unknown": lambda c, s: row_history(c, s, "nobody"),
        "GET /labels": found(),
        "GET /labels?label": found(label="label3"),
        "GET /labels?label, unknown": found(label="nothing"),
        "GET /labels?text, none": found(text="такого нет"),
        "GET /labels?version=v2": found(version="v2"),
        "GET /labels?since&until": found(since=middle, until=middle + timedelta(hours=1)),
    }
