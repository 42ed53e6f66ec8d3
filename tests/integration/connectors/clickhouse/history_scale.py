"""What history costs: ``make soak-history ROWS="1000000 100000000"``. Ten minutes for 100,000,000 rows.

On a local stack of its own: so many rows in `logs_labeled`, a second version and variants of every tenth, a
dead letter for every thousandth, 5,000 human labels; 12 GB. Then each question that commands, the page, the
API and the roles ask of the tables, so many times: the 95th percentile, the CPU time and the rows read of the
cheapest call, and whatever the engine shows to run for longer than five seconds. These are asked in this
process. Then, at the last of several numbers of rows, the roles start beside the tables and label WORK rows;
the routes of the API and some commands, each a process, are asked meanwhile: their times, and the most memory
that each role took. Exit code 1 if one takes longer than it may. ``--folder`` keeps the tables, a folder for
each number of rows, and uses them again. ``--docs`` writes the page.
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
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import promote_version, register_version
from connectors.local.processes import free_port
from streams.core.settings import Settings
from tests.integration.connectors.clickhouse.history_at_work import KEY, at_work, percentile
from tests.integration.connectors.clickhouse.history_page import run_of, write_page
from tests.integration.connectors.clickhouse.history_questions import Ask, asked
from tests.integration.connectors.clickhouse.history_tables import PARTITIONS, fill, time_of
from tests.integration.pipeline import Pipeline
from tests.stack import stack_in

LIMIT_SECONDS, TAKEOVER_SECONDS, QUERY_SECONDS, MEMORY_MB = 3.0, 10.0, 5.0, 400


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


class Asked(NamedTuple):
    """Calls of a question: seconds at the 95th percentile and at best; CPU seconds of the engine and of this
    process, and rows that were read, of the call with the least.
    """

    p95: float
    best: float
    cpu: float = 0.0
    read: int = 0


class Meter:
    """What the engine and this process have done so far."""

    def __init__(self, client: ClickHouseClient, engine: int) -> None:
        """``engine``: its process."""
        self._client = client
        self._processes = (psutil.Process(engine), psutil.Process())

    async def now(self) -> tuple[float, int]:
        """CPU seconds, and rows read."""
        found = await self._client.rows("SELECT value FROM system.events WHERE event = 'SelectedRows'")
        used = [process.cpu_times() for process in self._processes]
        return sum(one.user + one.system for one in used), int(found[0][0]) if found else 0


async def ask_often(
    client: ClickHouseClient, settings: Settings, ask: Ask, calls: int, meter: Meter
) -> Asked:
    """So many calls; one if that takes far too long."""
    seconds, cpu, read = list[float](), list[float](), list[int]()
    for _ in range(calls):
        before, began = await meter.now(), time.perf_counter()
        try:
            await ask(client, settings)
        except Exception as error:
            print(f"  {type(error).__name__}: {str(error)[:200]}", flush=True)
            return Asked(float("inf"), float("inf"))
        seconds.append(time.perf_counter() - began)
        after = await meter.now()
        cpu.append(after[0] - before[0])
        read.append(after[1] - before[1])
        if seconds[-1] > 4 * LIMIT_SECONDS:
            break
    return Asked(percentile(seconds), round(min(seconds), 3), round(min(cpu), 2), min(read))


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
        # Topics of their own for each run: the poller begins where this run's rows begin.
        flow.prefix = flow.environment["TOPIC_PREFIX"] = f"history{int(time.time())}"
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
        result: dict[str, Any] = {"rows": rows, "asked": {}, "at_work": {}, "taken_over": {}, "peak_mb": {}}
        async with ClickHouseClient.from_settings(settings) as client, watched(settings) as slow:
            meter = Meter(client, int(stack.clickhouse.pid or 0))
            for version in ("v1", "v2"):
                await register_version(client, settings, version=version, model="m")
            await promote_version(client, settings, "v1")
            sizes = await client.rows(
                "SELECT table, count(), sum(bytes_on_disk) FROM system.parts WHERE active "
                "AND database = {d:String} GROUP BY table ORDER BY table",
                {"d": flow.database},
            )
            result["parts"] = {str(table): int(parts) for table, parts, _ in sizes}
            print(*(f"{table}: {parts} parts, {size / 1e9:.2f} GB" for table, parts, size in sizes), sep="\n")
            for name, ask in asked(rows).items():
                if only not in name:
                    continue
                found = result["asked"][name] = await ask_often(client, settings, ask, calls, meter)
                print(
                    f"{found.p95:8.3f} s  {name} ({found.best:.3f} at best, CPU {found.cpu:.2f} s, "
                    f"{found.read:,} rows read)",
                    flush=True,
                )
            if roles:
                await at_work(flow, rows, (rows // 2, time_of(rows // 2)), calls, result)
            result["slow"] = slow
        flow.stop()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000_000], help="one number or several")
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--folder", type=Path, help="of the tables: kept, and used again as they are found")
    parser.add_argument("--only", default="", help="questions whose names have this in them")
    parser.add_argument("--no-roles", action="store_true", help="only the questions")
    parser.add_argument("--docs", action="store_true", help="also write the page's table")
    parser.add_argument("--json", action="store_true", help="print one JSON object, last on stdout")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the stack is stopped on the way out
    results = []
    for rows in options.rows:
        with contextlib.ExitStack() as stack:
            folder = options.folder or Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="labelstream-history-"))
            )
            (folder / str(rows)).mkdir(exist_ok=True, parents=True)
            roles = not options.no_roles and rows == options.rows[-1]
            results.append(asyncio.run(run(rows, options.calls, options.only, roles, folder / str(rows))))
    told = run_of(results, options.calls)
    print(told, flush=True)
    if options.docs:
        write_page(told)
    bad = [f"{one['rows']}: {what}" for one in results for what in misses(one)]
    print(*bad, sep="\n")
    if options.json:
        runs = [one | {"asked": {name: it._asdict() for name, it in one["asked"].items()}} for one in results]
        print(json.dumps({"runs": runs}, ensure_ascii=False))
    return 1 if bad else 0


def misses(result: dict[str, Any]) -> list[str]:
    """What takes longer, or more memory, than it may."""
    p95 = {name: one.p95 for name, one in result["asked"].items()} | result["at_work"]
    return [
        *(f"late: {name}" for name, seconds in p95.items() if seconds > LIMIT_SECONDS),
        *(f"late: takeover of the {one}" for one, s in result["taken_over"].items() if s > TAKEOVER_SECONDS),
        *(f"large: {role}" for role, megabytes in result["peak_mb"].items() if megabytes > MEMORY_MB),
        *(f"slow: {query}" for query in result["slow"]),
    ]


if __name__ == "__main__":
    sys.exit(main())
