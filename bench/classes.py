"""How much later are live rows beside a full replay? ``python -m bench.classes --replay 30000 [--json]``.

Live rows arrive one by one, first alone, then beside the given number of replay rows, on the same agents and
the same endpoint (64 slots of 100 ms). Measured from the row on `esk.rows` to its label on `esk.labeled`. A
live partition that stops would show in the longest gap.
"""

from __future__ import annotations

import asyncio
import itertools
import time

import numpy as np

from bench.endpoint import endpoint
from bench.harness import options, report, say, stack
from bench.running import fill_rows, make_topics, records, role, watch, with_settings
from streams.core.settings import Settings
from streams.core.topics import Topics

PARTITIONS = 4


def trickle(settings: Settings, first: int, rows: int, pause: float) -> None:
    """Publish live rows one after the other, to all partitions in turn."""
    asyncio.run(_trickled(settings, first, rows, pause))


async def _trickled(settings: Settings, first: int, rows: int, pause: float) -> None:
    from datetime import UTC, datetime

    from connectors.kafka.connection import connection
    from connectors.kafka.producer import LeasedProducer
    from streams.core.codec import encode, headers_of
    from streams.core.messages import Row
    from streams.core.records import Outgoing

    producer = LeasedProducer(connection(settings))
    await producer.start()
    topic = Topics(settings.topic_prefix).rows
    for number in range(first, first + rows):
        now = datetime.now(UTC)
        row = Row(row_id=f"live-{number}", text=f"срочный вопрос {number}", created_at=now, polled_at=now)
        key = row.row_id.encode()
        await producer.send(Outgoing(topic, number % PARTITIONS, key, encode(row), headers_of(row)))
        await asyncio.sleep(pause)
    await producer.stop()


def taken(settings: Settings, first: int, last: int) -> dict[str, float]:
    """Seconds from each of the live rows ``first`` to ``last`` to its label."""
    topics = Topics(settings.topic_prefix)
    began = {record.key: record.timestamp for record in records(settings, topics.rows)}
    found: list[tuple[int, float, float]] = []
    for record in records(settings, topics.labeled):
        if record.key.startswith(b"live-") and first <= int(record.key[5:]) < last:
            seconds = (record.timestamp - began[record.key]) / 1000
            found.append((record.partition, record.timestamp / 1000, seconds))
    ends = [sorted(at for number, at, _ in found if number == partition) for partition in range(PARTITIONS)]
    gaps = [later - earlier for run in ends for earlier, later in itertools.pairwise(run)]
    p50, p95 = np.percentile([seconds for _, _, seconds in found], [50, 95])
    return {"p50 s": float(p50), "p95 s": float(p95), "longest gap s": max(gaps), "rows": len(found)}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--replay", type=int, default=30_000)
    parser.add_argument("--live", type=int, default=600)
    chosen = parser.parse_args()
    live, pause = chosen.live, 0.03
    with (
        stack(clickhouse=False) as settings,
        endpoint(slots=64, seconds=0.1) as base,
        endpoint(slots=0) as silent,
    ):
        here = with_settings(
            settings,
            topic_partitions=PARTITIONS,
            llm_labeler_api_base=base,
            llm_augmenter_api_base=silent,
        )
        make_topics(here)
        topic = Topics(here.topic_prefix).labeled
        with role("agents", here, settings.labelstream_data / "one") as worker:
            trickle(here, 0, 50, pause)
            watch(here, topic, 50, [worker])
            trickle(here, 50, live, pause)
            watch(here, topic, 50 + live, [worker])
            alone = taken(here, 50, 50 + live)
            replays = [f"старый вопрос {number}" for number in range(chosen.replay)]
            fill_rows(here, replays, topic="replay")
            watch(here, topic, 50 + live + 500, [worker])  # the replay is running
            began = time.monotonic()
            trickle(here, 50 + live, live, pause)
            watch(here, topic, 50 + 2 * live + 500, [worker])
            seconds = time.monotonic() - began
            time.sleep(1)
            beside = taken(here, 50 + live, 50 + 2 * live)
            labelled = sum(not r.key.startswith(b"live-") for r in records(here, topic))
    if labelled >= chosen.replay:
        say("the replay ended before the live rows did: give it more rows")
    beside["replay rows/s"] = labelled / seconds
    say(f"p95 alone {alone['p95 s']:.3f} s, beside a replay {beside['p95 s']:.3f} s")
    report(
        f"live rows beside a replay of {chosen.replay}",
        [("alone", alone), ("beside a replay", beside)],
        as_json=chosen.json,
        ratios={"live p95 beside a replay / alone": beside["p95 s"] / alone["p95 s"]},
    )


if __name__ == "__main__":
    main()
