"""How long does a row take from its insert to `esk.labeled` in light traffic, without the model's time?

``python -m bench.latency --rows 200 [--json]``, with the default poll of 1 s, then with 0.1 s. One row is
inserted about every 0.1 s at irregular times; poller and agents run as usual. The endpoint answers after 50
ms, which are subtracted. Time starts before the INSERT is sent and ends at the timestamp of the message.
"""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np

from bench.endpoint import endpoint
from bench.harness import options, report, say, stack
from bench.poller import make_source
from bench.running import make_topics, records, role, watch, with_settings
from streams.core.settings import Settings
from streams.core.topics import Topics

MODEL_SECONDS = 0.05
_WARM = 20  # the first rows also wait for the roles to start


def insert_slowly(settings: Settings, first: int, rows: int, pause: float) -> dict[str, float]:
    """Insert rows one by one; returns the time of each."""
    return asyncio.run(_inserted(settings, first, rows, pause))


async def _inserted(settings: Settings, first: int, rows: int, pause: float) -> dict[str, float]:
    from connectors.clickhouse.client.client import ClickHouseClient

    client = ClickHouseClient.from_settings(settings)
    table = f"{settings.clickhouse_database}.{settings.clickhouse_table}"
    moments: dict[str, float] = {}
    chance = random.Random(3)
    try:
        for number in range(first, first + rows):
            moments[str(number)] = time.time()
            await client.command(
                f"INSERT INTO {table} SELECT {number}, 'когда привезут заказ номер {number}', 'delivery', "
                f"now64(3), 'u{number}', 's{number}'"
            )
            await asyncio.sleep(chance.uniform(0.2, 1.8) * pause)
    finally:
        await client.close()
    return moments


def latencies(settings: Settings, rows: int, poll_seconds: float, base: str, silent: str) -> dict[str, float]:
    """p50 and p99 in seconds, without the model's time."""
    name = f"latency{int(poll_seconds * 10)}"
    here = with_settings(
        settings,
        topic_prefix=name,
        clickhouse_database=name,
        topic_partitions=4,
        poll_interval_seconds=poll_seconds,
        llm_labeler_api_base=base,
        llm_augmenter_api_base=silent,
    )
    make_source(here, 0)
    make_topics(here)
    folder = settings.labelstream_data / name
    topic = Topics(name).labeled
    with role("poller", here, folder) as poller, role("agents", here, folder) as worker:
        moments = insert_slowly(here, 0, _WARM, 0.1)
        watch(here, topic, _WARM, [poller, worker])
        moments |= insert_slowly(here, _WARM, rows, 0.1)
        watch(here, topic, _WARM + rows, [poller, worker])
    took = [
        record.timestamp / 1000 - moments[record.key.decode()] - MODEL_SECONDS
        for record in records(here, topic)
        if int(record.key) >= _WARM
    ]
    p50, p99 = np.percentile(took, [50, 99])
    return {"p50 s": float(p50), "p99 s": float(p99), "rows": len(took)}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=300)
    chosen = parser.parse_args()
    figures = []
    with stack() as settings, endpoint(seconds=MODEL_SECONDS) as base, endpoint(slots=0) as silent:
        for poll_seconds in (1.0, 0.1):
            found = latencies(settings, chosen.rows, poll_seconds, base, silent)
            say(f"poll {poll_seconds} s: p50 {found['p50 s']:.3f} s, p99 {found['p99 s']:.3f} s")
            figures.append((f"poll every {poll_seconds:g} s", found))
    ratios = {
        f"{quantile} s, {name}": found[f"{quantile} s"]
        for name, found in figures
        for quantile in ("p50", "p99")
    }
    report("insert to esk.labeled, beyond the model's time", figures, as_json=chosen.json, ratios=ratios)


if __name__ == "__main__":
    main()
