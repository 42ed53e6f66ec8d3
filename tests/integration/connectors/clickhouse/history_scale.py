"""What history costs: ``make soak-history ROWS=10000000``. Ten minutes for 100,000,000 rows.

On a local stack of its own: so many rows in `logs_labeled`, a second version and variants of every tenth, a
dead letter for every thousandth, 5,000 human labels; 12 GB. Then each question that commands, the page, the
API and the roles ask of the tables, so many times: the 95th percentile, and whatever the engine shows to run
for longer than five seconds. These are asked in this process. Then the roles start beside the tables and
label WORK rows; the routes of the API and some commands, each a process, are asked meanwhile: their times,
and the most memory that each role took. Exit code 1 if one takes longer than it may. ``--folder`` keeps the
tables for another run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.dead_letters import list_letters
from connectors.clickhouse.queries.draw import KnownDraws
from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.label_versions import list_versions, promote_version, register_version
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
from connectors.local.processes import free_port
from streams.api.quality import picture
from streams.core.settings import Settings
from streams.operations.dead_letters import list_dead_letters
from streams.operations.status import status
from streams.ports.lookups import LabelQuery
from streams.quality.audit import draw_rows
from streams.quality.evaluate import EvaluationQuery, evaluate_tables
from tests.integration.connectors.clickhouse.history_at_work import KEY, at_work, percentile
from tests.integration.connectors.clickhouse.history_tables import (
    ANSWERS,
    AUGMENTED,
    FIRST,
    LABELED,
    LETTERS,
    UNUSED,
    fill,
)
from tests.integration.pipeline import Pipeline
from tests.stack import stack_in

PARTITIONS = 4
LIMIT_SECONDS, QUERY_SECONDS, MEMORY_MB = 3.0, 5.0, 400
FOREVER = 2**62

Ask = Callable[[ClickHouseClient, Settings], Awaitable[Any]]


def middle_of(rows: int) -> datetime:
    """The time of the row in the middle."""
    return FIRST + timedelta(milliseconds=100 * (rows // 2))


def asked(rows: int) -> dict[str, Ask]:
    """Each question, by name."""
    topic_end, middle = rows // PARTITIONS, middle_of(rows)
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
            await draw_rows(client, settings, datetime(2100, 1, 1, tzinfo=UTC), 2_000, known())

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
        "page: labels of a day": lambda c, s: label_picture(c, s, 2**52),
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


@contextlib.asynccontextmanager
async def watched(settings: Settings) -> AsyncIterator[list[str]]:
    """The queries that the engine shows to run for longer than QUERY_SECONDS."""
    slow: list[str] = []

    async def look() -> None:
        async with ClickHouseClient.from_settings(settings) as client:
            while True:
                slow.extend(
                    str(query)[:300]
                    for (query,) in await client.rows(
                        "SELECT query FROM system.processes WHERE elapsed > {s:Float64}", {"s": QUERY_SECONDS}
                    )
                    if str(query)[:300] not in slow
                )
                await asyncio.sleep(1)

    task = asyncio.create_task(look())
    try:
        yield slow
    finally:
        task.cancel()
        await asyncio.wait([task])


async def times(client: ClickHouseClient, settings: Settings, ask: Ask, calls: int) -> list[float]:
    """Seconds of each call, in order; one call if that takes far too long."""
    found: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        try:
            await ask(client, settings)
        except Exception as error:
            print(f"  {type(error).__name__}: {str(error)[:200]}", flush=True)
            return [float("inf")]
        found.append(time.perf_counter() - began)
        if found[-1] > 4 * LIMIT_SECONDS:
            break
    return sorted(found)


async def run(rows: int, calls: int, only: str, roles: bool, folder: Path) -> dict[str, Any]:
    with stack_in(folder, llm_args=(), taxonomy=None) as stack:
        flow = Pipeline(
            stack,
            "history",
            folder,
            API_KEYS=f"anna:write:{KEY}",
            API_PORT=str(free_port()),
            API_REQUESTS_PER_SECOND="0",
            AUGMENT_VARIANTS="3",
            LABEL_VERSION="v1",
        )
        if flow.rows(f"SELECT 1 FROM system.databases WHERE name = '{flow.database}'"):
            assert flow.command("init").returncode == 0
        else:
            flow.create()
        settings = Settings(
            clickhouse_host="127.0.0.1",
            clickhouse_port=flow.clickhouse_port,
            clickhouse_database=flow.database,
            kafka_bootstrap_servers=flow.kafka,
            topic_prefix=flow.prefix,
            topic_partitions=PARTITIONS,
            labelstream_data=folder / "data",
        )
        async with ClickHouseClient.from_settings(settings, answer_seconds=600.0) as filling:
            began = time.perf_counter()
            await fill(filling, flow.database, rows)
            print(f"filled in {time.perf_counter() - began:.0f} s", flush=True)
        result: dict[str, Any] = {"rows": rows, "p95": {}, "peak_mb": {}}
        async with ClickHouseClient.from_settings(settings) as client, watched(settings) as slow:
            for version in ("v1", "v2"):
                await register_version(client, settings, version=version, model="m")
            await promote_version(client, settings, "v1")
            sizes = await client.rows(
                "SELECT table, count(), sum(bytes_on_disk) FROM system.parts WHERE active "
                "AND database = {d:String} GROUP BY table ORDER BY table",
                {"d": flow.database},
            )
            print(*(f"{table}: {parts} parts, {size / 1e9:.2f} GB" for table, parts, size in sizes), sep="\n")
            for name, ask in asked(rows).items():
                if only not in name:
                    continue
                took = await times(client, settings, ask, calls)
                result["p95"][name] = percentile(took)
                print(f"{result['p95'][name]:8.3f} s  {name} ({took[0]:.3f} at best)", flush=True)
            if roles:
                await at_work(flow, rows, (rows // 2, middle_of(rows)), calls, result)
            result["slow"] = slow
        flow.stop()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="of the stack: kept, and used again as it is found")
    parser.add_argument("--only", default="", help="questions whose names have this in them")
    parser.add_argument("--no-roles", action="store_true", help="only the questions")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last on stdout")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the stack is stopped on the way out
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="labelstream-history-"))
        )
        folder.mkdir(exist_ok=True, parents=True)
        found = asyncio.run(run(options.rows, options.calls, options.only, not options.no_roles, folder))
    late = [name for name, seconds in found["p95"].items() if seconds > LIMIT_SECONDS]
    large = [role for role, megabytes in found["peak_mb"].items() if megabytes > MEMORY_MB]
    for what, names in (("late", late), ("large", large), ("slow", found["slow"])):
        for name in names:
            print(f"{what}: {name}")
    if options.json:
        print(json.dumps(found, ensure_ascii=False))
    return 1 if late or large or found["slow"] else 0


if __name__ == "__main__":
    sys.exit(main())
