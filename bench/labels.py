"""How long does `GET /labels` take with many rows? ``python -m bench.labels --rows 1000000 [--json]``.

Fills the tables as `bench.current_view` does and runs the API's queries, with the server's query condition
cache off. Seconds of the first run, and the median and the maximum of several.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from datetime import UTC, datetime

from bench.current_view import fill, settled
from bench.harness import options, report, say, stack
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries import lookups
from connectors.clickhouse.queries.lookups import row_history, search_labels
from connectors.clickhouse.schema.database import create_tables
from streams.core.settings import Settings
from streams.ports.lookups import LabelQuery

ROUNDS = 7
DAY = (datetime(2026, 2, 10, tzinfo=UTC), datetime(2026, 2, 11, tzinfo=UTC))
QUESTIONS = {
    "the newest": LabelQuery(),
    "one label": LabelQuery(label="login"),
    "hardly sure": LabelQuery(max_confidence=0.01),
    "a text that one row has": LabelQuery(text="номер 4242"),
    "a text that no row has": LabelQuery(text="нет такого"),
    "a text that all have": LabelQuery(text="КАБИНЕТ"),
    "a label that no row has": LabelQuery(label="nothing"),
    "a day, a label, hardly sure": LabelQuery(since=DAY[0], until=DAY[1], label="water", max_confidence=0.1),
    "a former version's": LabelQuery(version="v1", label="roads"),
}


async def run(settings: Settings, rows: int) -> dict[str, dict[str, float]]:
    """Seconds of each question."""
    # Otherwise the second run would not do the same as the first.
    lookups._LIMITS += ", use_query_condition_cache = 0"
    client = ClickHouseClient.from_settings(settings, answer_seconds=900.0)
    found: dict[str, list[float]] = {name: [] for name in (*QUESTIONS, "the page after", "a row by its id")}

    async def ask(name: str, query: LabelQuery, after: lookups.Place | None = None) -> lookups.Place | None:
        began = time.perf_counter()
        page = await search_labels(client, settings, query, after, 50)
        found[name].append(time.perf_counter() - began)
        return page.next

    try:
        await create_tables(client, settings)
        await fill(client, settings, rows)
        await settled(client)
        say(f"{rows} rows are there")
        for number in range(ROUNDS):
            for name, query in QUESTIONS.items():
                last = await ask(name, query)
                if name == "the newest":
                    await ask("the page after", query, last)
            began = time.perf_counter()
            assert await row_history(client, settings, str(4242 + number)) is not None
            found["a row by its id"].append(time.perf_counter() - began)
    finally:
        await client.close()
    return {
        name: {"first": times[0], "median": statistics.median(times), "worst": max(times)}
        for name, times in found.items()
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with stack(kafka=False) as settings:
        found = asyncio.run(run(settings, chosen.rows))
    report(f"labels looked up among {chosen.rows} rows, seconds", list(found.items()), as_json=chosen.json)


if __name__ == "__main__":
    main()
