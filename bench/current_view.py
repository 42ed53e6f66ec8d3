"""What is the best way to find a row's current label? ``python -m bench.current_view --rows 10000000
[--json]``.

In a temporary folder, fills `logs_labeled` with so many rows of one label version and a tenth of them in a
second one, and runs four queries for each way to find the current label. Seconds, best of several.
"""

from __future__ import annotations

import asyncio
import time

from bench.harness import options, report, say, stack
from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import register_version
from connectors.clickhouse.schema.columns import columns_of
from connectors.clickhouse.schema.database import create_tables
from streams.core.messages import Labeled
from streams.core.settings import Settings

PART = 1_000_000
DAYS = 90
ROUNDS = 5
DAY = "created_at >= '2026-02-10' AND created_at < '2026-02-11'"
MONTH = "created_at >= '2026-02-01' AND created_at < '2026-03-01'"


def questions(table: str) -> dict[str, str]:
    """Typical queries on ``table``; the single row exists."""
    return {
        "a day": f"SELECT row_id, text, label, confidence FROM {table} WHERE {DAY}",
        "one row_id": f"SELECT * FROM {table} WHERE row_id = '4242'",
        "labels of a month": f"SELECT label, count() FROM {table} WHERE {MONTH} GROUP BY label",
        "count of all": f"SELECT count() FROM {table}",
    }


async def fill(client: ClickHouseClient, settings: Settings, rows: int) -> None:
    """``rows`` of version v1 over DAYS days, and a tenth of them in v2, which is the newer one."""
    name = settings.result_database
    step = DAYS * 86_400_000_000 // rows
    # Times with a jitter: rows do not arrive exactly in order.
    moment = f"toInt64(1767225600000000 + number * {step} + sipHash64(number) % 5000000)"
    labels = "['login', 'water', 'payment', 'school', 'roads', 'other']"
    select = (
        "SELECT toString(number), concat('не могу войти в кабинет, ошибка номер ', toString(number)), "
        f"fromUnixTimestamp64Micro({moment}, 'UTC'), {labels}[1 + sipHash64(number, {{salt}}) % 6], "
        "'{version}', (sipHash64(number, 3) % 1000) / 1000, 'model', 0, number "
        "FROM numbers({start}, {count}) WHERE {where}"
    )
    into = "row_id, text, created_at, label, label_version, confidence, model, _partition, _offset"
    for version, salt, where in (("v1", 1, "1"), ("v2", 2, "number % 10 = 0")):
        await register_version(client, settings, version=version, model="model")
        for start in range(0, rows, PART):
            values = {"salt": salt, "version": version, "where": where, "start": start}
            await client.command(
                f"INSERT INTO {name}.logs_labeled ({into}) "
                + select.format(**values, count=min(PART, rows - start))
            )


async def alternatives(client: ClickHouseClient, settings: Settings) -> dict[str, str]:
    """The ways to find the current label: name and FROM clause."""
    name = settings.result_database
    table = f"{name}.logs_labeled"
    # One label for each row, the last stored: merges delete the others, so nothing can be compared or taken
    # back, and every query needs FINAL until they have run.
    await client.command(
        f"CREATE TABLE {name}.by_row AS {table} "
        "ENGINE = ReplacingMergeTree(_stored_at) ORDER BY (created_at, row_id)"
    )
    await client.command(f"INSERT INTO {name}.by_row SELECT * FROM {table} WHERE label_version = 'v1'")
    await client.command(f"INSERT INTO {name}.by_row SELECT * FROM {table} WHERE label_version = 'v2'")
    # A materialised table of current rows, as an INSERT SELECT would rebuild it after each promotion.
    columns = ", ".join(column.name for column in columns_of(Labeled))
    await client.command(
        f"CREATE TABLE {name}.materialised AS {table} ENGINE = MergeTree ORDER BY (created_at, row_id)"
    )
    began = time.perf_counter()
    for month in range(1, 5):
        await client.command(
            f"INSERT INTO {name}.materialised ({columns}) SELECT {columns} FROM {name}.logs_labeled_current "
            f"WHERE toMonth(created_at) = {month}"
        )
    say(f"the materialised table took {time.perf_counter() - began:.1f} s to make, as each promotion would")
    return {
        "view": f"{name}.logs_labeled_current",
        "FINAL on a table by row": f"{name}.by_row FINAL",
        "materialised": f"{name}.materialised",
        "history, no choice": table,
    }


async def ask(client: ClickHouseClient, sql: str) -> float:
    """Seconds for ``sql``, whose rows the server reads and discards."""
    began = time.perf_counter()
    await client.command(f"SELECT count() FROM ({sql} LIMIT 1000000000) WHERE NOT ignore(*)")
    return time.perf_counter() - began


async def settled(client: ClickHouseClient, seconds: float = 120.0) -> None:
    """Wait for the merges of the inserted rows, which would be measured too."""
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < 3 and time.monotonic() < deadline:
        merges = (await client.rows("SELECT count() FROM system.merges"))[0][0]
        quiet = 0 if merges else quiet + 1
        await asyncio.sleep(0.5)


async def run(settings: Settings, rows: int) -> dict[str, dict[str, float]]:
    """The seconds of each query for each way, the best of ROUNDS."""
    client = ClickHouseClient.from_settings(settings, answer_seconds=900.0)
    try:
        await create_tables(client, settings)
        began = time.perf_counter()
        await fill(client, settings, rows)
        say(f"{rows} rows made in {time.perf_counter() - began:.0f} s")
        ways = await alternatives(client, settings)
        await settled(client)
        found: dict[str, dict[str, float]] = {name: {} for name in ways}
        # In turn, so that other load on the machine affects all of them alike.
        for _ in range(ROUNDS):
            for name, source in ways.items():
                for question, sql in questions(source).items():
                    seconds = await ask(client, sql)
                    found[name][question] = min(seconds, found[name].get(question, seconds))
        return found
    finally:
        await client.close()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    chosen = parser.parse_args()
    with stack(kafka=False) as settings:
        found = asyncio.run(run(settings, chosen.rows))
    report(f"the current label among {chosen.rows} rows, seconds", list(found.items()), as_json=chosen.json)


if __name__ == "__main__":
    main()
