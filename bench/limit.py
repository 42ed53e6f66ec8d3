"""Does the limit find its level when the endpoint's capacity changes? ``python -m bench.limit [--json]``.

One agents worker on a stand-in of 64 slots of 300 ms, which falls to 16 and returns; first with an endpoint
that answers 429 as soon as its slots are taken, then with one that queues and reports nothing. ``--plots
FOLDER`` writes the results, and the curve of rate against requests in flight, as SVG.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.endpoint import change, endpoint, stats_of
from bench.harness import measure, options, report, say, stack
from bench.label import raw
from bench.plot import Line, chart
from bench.running import distinct_texts, fill_rows, make_topics, role, with_settings
from streams.core.settings import Settings

SLOTS, FEWER, SECONDS = 64, 16, 0.3
MOST = 256  # LLM_LABELER_CONCURRENCY: far above the level to be found
SETTLE = 10.0  # seconds until the level should be reached
ENOUGH = 0.9  # of capacity
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Seen:
    """The endpoint at one time; ``at`` in seconds, counts since its start."""

    at: float
    slots: int
    answered: int
    calls: int
    refused: int
    in_flight: int
    waiting: int


def seen_run(settings: Settings, name: str, phases: Sequence[tuple[int, float]], queue: int) -> list[Seen]:
    """Run a worker while the endpoint has so many slots for so many seconds, one phase after the other."""
    rows = int(sum(slots / SECONDS * seconds for slots, seconds in phases) * 1.1) + 2000
    looks: list[Seen] = []
    with endpoint(slots=phases[0][0], seconds=SECONDS, queue=queue) as base, endpoint(slots=0) as silent:
        here = with_settings(
            settings,
            topic_prefix=name,
            topic_partitions=4,
            llm_labeler_api_base=base,
            llm_labeler_concurrency=MOST,
            llm_augmenter_api_base=silent,
        )
        make_topics(here)
        fill_rows(here, distinct_texts(rows))
        with role("agents", here, settings.labelstream_data / name):
            deadline = time.monotonic() + 60
            while not stats_of(base)["answered"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nothing was asked of the endpoint; see {name}/agents.log")
                time.sleep(0.05)
            began, end = time.monotonic(), 0.0
            for slots, seconds in phases:
                change(base, slots=slots)
                end += seconds
                while (at := time.monotonic() - began) < end:
                    found = stats_of(base)
                    looks.append(Seen(at, slots, *(found[name] for name in _COUNTS)))
                    time.sleep(_LOOK_SECONDS)
    return looks


_COUNTS = ("answered", "calls", "refused", "in_flight", "waiting")


def rate_at(looks: Sequence[Seen], at: float, window: float) -> float:
    """Answers a second in the ``window`` seconds before ``at``."""
    times = [look.at for look in looks]
    last = looks[max(bisect.bisect_right(times, at) - 1, 0)]
    first = looks[max(bisect.bisect_right(times, at - window) - 1, 0)]
    return (last.answered - first.answered) / (last.at - first.at) if last.at > first.at else 0.0


def judged(looks: Sequence[Seen], begin: float, end: float) -> dict[str, float]:
    """A phase from ``begin`` to ``end``: when it first reached 0.9 of capacity, the rate from 10 to 20 s, and
    refusals and the endpoint's queue from 10 s on.
    """
    phase = [look for look in looks if begin + SETTLE <= look.at < end]
    first, last = phase[0], phase[-1]
    capacity = first.slots / SECONDS
    reached = [
        look.at - begin
        for look in looks
        if begin + 1.0 <= look.at < end and rate_at(looks, look.at, 1.0) >= ENOUGH * capacity
    ]
    calls = last.calls - first.calls
    return {
        "slots": first.slots,
        "s to 0.9": reached[0] if reached else end - begin,
        "of capacity": rate_at(looks, begin + 2 * SETTLE, SETTLE) / capacity,
        "429 %": 100 * (last.refused - first.refused) / calls if calls else 0.0,
        "waiting of slots, mean": sum(look.waiting for look in phase) / len(phase) / first.slots,
        "waiting of slots, most": max(look.waiting for look in phase) / first.slots,
    }


def plot_run(path: Path, title: str, looks: Sequence[Seen]) -> None:
    """Slots, requests in flight and answers a second over time."""
    chart(
        path,
        title,
        "seconds",
        "requests in flight",
        [
            Line("in flight", [(look.at, look.in_flight) for look in looks]),
            Line("waiting at the endpoint", [(look.at, look.waiting) for look in looks]),
            Line("slots", [(look.at, look.slots) for look in looks], step=True, dashed=True),
            Line(
                f"answers in {SECONDS} s",
                [(look.at, rate_at(looks, look.at, 1.0) * SECONDS) for look in looks],
            ),
        ],
    )


def curve(levels: Sequence[int], seconds: float) -> list[tuple[float, float]]:
    """Requests in flight of the bare loop, and the answers a second of an endpoint of 64 slots."""
    points = []
    with endpoint(slots=SLOTS, seconds=SECONDS) as base:
        for level in levels:
            rows = max(int(min(level, SLOTS) / SECONDS * seconds), 2 * level)
            points.append((float(level), measure(raw, base, rows, level).result["rows/s"]))
            say(f"{level} in flight: {points[-1][1]:.0f}/s")
    return points


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=25.0, help="how long each capacity lasts")
    parser.add_argument("--only", choices=("429", "queue"), help="one of the endpoints")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder")
    chosen = parser.parse_args()
    seconds = chosen.seconds
    phases = [(SLOTS, seconds), (FEWER, seconds), (SLOTS, seconds)]
    figures: list[tuple[str, dict[str, float]]] = []
    runs: dict[str, list[Seen]] = {}
    with stack(clickhouse=False) as settings:
        for name, queue in (("429", 0), ("queue", 1_000_000)):
            if chosen.only not in (None, name):
                continue
            looks = runs[name] = seen_run(settings, f"limit{name}", phases, queue)
            for number, moment in enumerate(("start", "fall", "return")):
                found = judged(looks, number * seconds, (number + 1) * seconds)
                say(f"{name}, {moment}: {found}")
                figures.append((f"{name}, {moment}", found))
    if chosen.plots:
        words = {"429": "an endpoint that answers 429", "queue": "an endpoint that queues and tells nothing"}
        for name, looks in runs.items():
            plot_run(chosen.plots / f"limit-{name}.svg", f"The limit finds its level: {words[name]}", looks)
        points = curve((4, 8, 16, 32, 48, 64, 96, 128), 3.0)
        found_at = [
            (sum(look.in_flight for look in steady) / len(steady), rate_at(looks, seconds, seconds - SETTLE))
            for looks in runs.values()
            if (steady := [look for look in looks if SETTLE <= look.at < seconds])
        ]
        chart(
            chosen.plots / "rate-in-flight.svg",
            f"Rate against requests in flight: {SLOTS} slots of {SECONDS} s",
            "requests in flight",
            "answers a second",
            [
                Line("bare loop", points, marks=True),
                Line("where the limit settles (429, queue)", found_at, marks=True, joined=False),
            ],
        )
    by_name = dict(figures)
    ratios: dict[str, float] = {}
    for name in runs:
        fall, back = by_name[f"{name}, fall"], by_name[f"{name}, return"]
        if name == "429":
            ratios["429: share refused after the fall"] = fall["429 %"] / 100
        else:
            ratios["queue: waiting over slots after the fall, mean"] = fall["waiting of slots, mean"]
            ratios["queue: waiting over slots after the fall, most"] = fall["waiting of slots, most"]
        ratios[f"{name}: rate over capacity 10 to 20 s after the return"] = back["of capacity"]
    report(
        f"the limit, capacity {SLOTS} -> {FEWER} -> {SLOTS} slots of {SECONDS} s, from {SETTLE:.0f} s on",
        figures,
        as_json=chosen.json,
        ratios=ratios,
    )


if __name__ == "__main__":
    main()
