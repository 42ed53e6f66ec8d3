"""Where does the CPU time of a message go? ``python -m bench.profile [--rows 12000] [--json]``.

One agents worker labels rows on an endpoint of 5 ms. A timer of the process's CPU time samples its stack
every 2 ms. Each sample counts for the part of the program that the innermost known frame belongs to, so calls
into libraries count for their caller. The columns are ms a row, and the share of all. ``--functions 40``
lists the busiest functions instead.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from bench.endpoint import endpoint
from bench.harness import options, report, stack
from bench.running import distinct_texts, fill_rows, make_topics, role, watch, with_settings
from streams.core.topics import Topics

_EVERY = 0.002
# The first matching part, from the innermost frame outward: a substring of the file's path.
PARTS = (
    ("decode, encode, headers", ("streams/core/codec.py", "streams/core/messages.py")),
    (
        "identities, window, memory",
        (
            "streams/delivery/deduplication.py",
            "streams/delivery/commit_window.py",
            "streams/jobs/in_flight_rows.py",
        ),
    ),
    ("cache of answers", ("connectors/llm/cache.py",)),
    ("prompt, answer, distribution", ("agents/", "connectors/llm/answer.py")),
    ("limit", ("connectors/llm/limit.py", "connectors/llm/pace.py")),
    ("HTTP", ("aiohttp/", "httpx", "yarl/", "multidict/", "connectors/llm/")),
    ("produce", ("aiokafka/producer", "aiokafka/record/default_records", "connectors/kafka/producer.py")),
    ("fetch", ("aiokafka/consumer", "connectors/kafka/tail.py")),
    ("Kafka connection", ("aiokafka/",)),
    ("lease", ("connectors/kafka/lease.py",)),
    (
        "delivery",
        (
            "streams/delivery/delivery.py",
            "streams/delivery/ordered_input.py",
            "streams/delivery/in_flight.py",
            "streams/delivery/replay_throttle.py",
        ),
    ),
    ("Faust", ("faust/", "mode/", "streams/pipeline/faust_app.py", "streams/pipeline/fair_fetch.py")),
)
_REST = "event loop"
_samples: Counter[str] = Counter()
_functions: Counter[str] = Counter()


def part_of(frame: FrameType | None) -> str:
    """The part of the program that runs in ``frame``."""
    while frame is not None:
        path = frame.f_code.co_filename
        for name, marks in PARTS:
            if any(mark in path for mark in marks):
                return name
        frame = frame.f_back
    return _REST


def _look(_: int, frame: FrameType | None) -> None:
    _samples[part_of(frame)] += 1
    if frame is not None:
        code = frame.f_code
        _functions[f"{'/'.join(Path(code.co_filename).parts[-2:])} {code.co_qualname}"] += 1


def worker(out: Path) -> None:
    """`labelstream run agents`; SIGUSR1 starts sampling, a second one writes the samples to ``out``."""
    begun: list[tuple[float, float]] = []

    def turn(*_: object) -> None:
        now = time.thread_time(), time.process_time()
        if not begun:
            begun.append(now)
            signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        main, process = (later - earlier for later, earlier in zip(now, begun[0], strict=True))
        partial = out.with_suffix(".part")
        partial.write_text(
            json.dumps({"samples": _samples, "functions": _functions, "main": main, "process": process})
        )
        partial.replace(out)

    signal.signal(signal.SIGPROF, _look)
    signal.signal(signal.SIGUSR1, turn)
    from streams.cli.main import main as labelstream

    sys.argv = ["labelstream", "run", "agents"]
    labelstream()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=12_000)
    parser.add_argument("--functions", type=int, default=0)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        worker(chosen.worker)
        return
    with stack(clickhouse=False) as settings, endpoint() as base, endpoint(slots=0) as silent:
        here = with_settings(
            settings,
            topic_partitions=4,
            llm_labeler_api_base=base,
            llm_labeler_concurrency=64,
            llm_augmenter_api_base=silent,
        )
        make_topics(here)
        fill_rows(here, distinct_texts(chosen.rows))
        topic, folder = Topics(here.topic_prefix).labeled, settings.labelstream_data / "profile"
        out = folder / "looks.json"
        command = [sys.executable, "-m", "bench.profile", "--worker", str(out)]
        with role("agents", here, folder, command) as process:
            first = watch(here, topic, chosen.rows // 4, [process]).count[-1]
            os.kill(process.pid, signal.SIGUSR1)
            rows = watch(here, topic, 3 * chosen.rows // 4, [process]).count[-1] - first
            os.kill(process.pid, signal.SIGUSR1)
            deadline = time.monotonic() + 10
            while not out.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            seen = json.loads(out.read_text())
    total = sum(seen["samples"].values())
    per_row = seen["process"] / rows * 1000
    looks = Counter(seen["functions"] if chosen.functions else seen["samples"])
    figures = [
        (name, {"CPU ms/row": per_row * count / total, "share": count / total})
        for name, count in looks.most_common(chosen.functions or None)
    ]
    figures.append(("all, the timer's own included", {"CPU ms/row": per_row, "share": 1.0}))
    figures.append(
        ("of it the consumer's thread", {"CPU ms/row": per_row * (1 - seen["main"] / seen["process"])})
    )
    report(f"CPU of a labelled message, {rows} rows on an endpoint of 5 ms", figures, as_json=chosen.json)


if __name__ == "__main__":
    main()
