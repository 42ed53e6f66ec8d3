"""How many calls do repeated texts cost when a worker dies? ``python -m bench.calls [--json]``.

20,000 rows by Zipf's law over 2,000 texts, two workers, one of them killed with -9 half-way. The labeler's
calls are counted at the endpoints, one for each worker to tell them apart. Allowed is one call for each text,
and one more for each call that the dead worker had in flight.
"""

from __future__ import annotations

import random
import signal
import threading
import time

import psutil

from bench.endpoint import endpoint, stats_of
from bench.harness import options, report, stack
from bench.running import distinct_texts, fill_rows, make_topics, records, role, watch, with_settings
from streams.core.topics import Topics

CONCURRENCY = 32


def zipf_texts(rows: int, texts: int, power: float = 1.1, seed: int = 1) -> list[str]:
    """So many rows over so many texts; the n-th text has a share in proportion to ``n ** -power``."""
    weights = [(rank + 1) ** -power for rank in range(texts)]
    return random.Random(seed).choices(distinct_texts(texts), weights, k=rows)


def kill_midway(worker: psutil.Process, base: str, calls: int, found: list[int]) -> None:
    """Kill ``worker`` when its endpoint has had ``calls``; appends the number of requests in flight there to
    ``found``.
    """
    while stats_of(base)["calls"] < calls:
        time.sleep(0.02)
    worker.send_signal(signal.SIGSTOP)  # so that it sends nothing between the count and the kill
    found.append(stats_of(base)["in_flight"])
    worker.send_signal(signal.SIGKILL)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--texts", type=int, default=2000)
    chosen = parser.parse_args()
    texts = zipf_texts(chosen.rows, chosen.texts)
    distinct = len(set(texts))
    with (
        stack(clickhouse=False) as settings,
        endpoint(seconds=0.1) as base,
        endpoint(seconds=0.1) as other,
        endpoint(slots=0) as silent,
    ):
        here = with_settings(
            settings,
            topic_partitions=4,
            llm_labeler_api_base=base,
            llm_augmenter_api_base=silent,
            llm_labeler_concurrency=CONCURRENCY,
        )
        make_topics(here)
        there = with_settings(here, llm_labeler_api_base=other)
        folder, in_flight = settings.labelstream_data, list[int]()
        topic = Topics(here.topic_prefix).labeled
        with role("agents", here, folder / "one") as first, role("agents", there, folder / "two") as second:
            fill_rows(here, texts)
            arguments = (first, base, distinct // 4, in_flight)
            killer = threading.Thread(target=kill_midway, args=arguments, daemon=True)
            killer.start()
            watch(here, topic, chosen.rows, [second])
            killer.join(10)
        calls = stats_of(base)["calls"] + stats_of(other)["calls"]
        labelled = [record.key for record in records(here, topic)]
    if not in_flight:
        raise SystemExit("the first worker was not killed: it got no partition in time")
    figures: dict[str, float] = {
        "rows": chosen.rows,
        "distinct texts": distinct,
        "calls": calls,
        "calls beyond": calls - distinct,
        "in flight at the kill": in_flight[0],
        "labelled twice": len(labelled) - len(set(labelled)),
    }
    report(
        "labeler calls, two workers, one killed midway",
        [("calls", figures)],
        as_json=chosen.json,
        ratios={
            "calls beyond the distinct texts / places of the killed worker": (calls - distinct) / CONCURRENCY
        },
    )


if __name__ == "__main__":
    main()
