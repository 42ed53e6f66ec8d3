"""How much faster are two agent workers than one? ``python -m bench.workers [--json]``.

An endpoint without a limit that takes 300 ms, 32 requests in flight for each worker; rows a second in steady
state.
"""

from __future__ import annotations

import contextlib

from bench.endpoint import endpoint
from bench.harness import options, report, say, stack
from bench.running import distinct_texts, fill_rows, make_topics, role, watched_run, with_settings
from streams.core.settings import Settings


def workers(settings: Settings, count: int, base: str, silent: str, seconds: float) -> dict[str, float]:
    """``count`` workers over rows for about so many seconds."""
    here = with_settings(
        settings,
        topic_prefix=f"workers{count}",
        topic_partitions=4,
        llm_labeler_api_base=base,
        llm_augmenter_api_base=silent,
        llm_labeler_concurrency=32,
    )
    make_topics(here)
    rows = int(count * 32 / 0.3 * seconds)
    fill_rows(here, distinct_texts(rows))
    with contextlib.ExitStack() as running:
        found = [
            running.enter_context(role("agents", here, settings.labelstream_data / f"{count}-{number}"))
            for number in range(count)
        ]
        return watched_run(here, found, rows)


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each run is to take, about")
    chosen = parser.parse_args()
    figures = []
    with stack(clickhouse=False) as settings, endpoint(seconds=0.3) as base, endpoint(slots=0) as silent:
        for count in (1, 2):
            found = workers(settings, count, base, silent, chosen.seconds)
            say(f"{count}: {found['rows/s']:.1f} rows/s")
            figures.append((f"{count} worker{'s'[: count - 1]}", found))
    (_, one), (_, two) = figures
    report(
        "agent workers, 300 ms, 32 in flight each",
        figures,
        as_json=chosen.json,
        ratios={"two workers / one": two["rows/s"] / one["rows/s"]},
    )


if __name__ == "__main__":
    main()
