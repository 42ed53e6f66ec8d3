"""How much later are live labels while all variants are verified? ``python -m bench.variants [--json]``.

Live rows arrive one by one on one worker, whose labelling model has 64 slots of 0.3 s, once with
AUGMENT_VERIFY=0 and once with 1. The augmenting model writes three variants of each row, all different, in
0.3 s; their labels would take more slots than live rows leave. Measured from the row on `esk.rows` to its
label on `esk.labeled`.
"""

from __future__ import annotations

from collections import Counter

import orjson

from bench.classes import PARTITIONS, taken, trickle
from bench.endpoint import endpoint, stats_of
from bench.harness import options, report, say, stack
from bench.running import make_topics, records, role, watch, with_settings
from streams.core.settings import Settings
from streams.core.topics import Topics

_WARM = 300


def measured(settings: Settings, rows: int, pause: float) -> dict[str, float]:
    """Latencies of ``rows`` live rows, and what became of their variants."""
    make_topics(settings)
    topics = Topics(settings.topic_prefix)
    with role("agents", settings, settings.labelstream_data / settings.topic_prefix) as worker:
        trickle(settings, 0, _WARM, pause)
        trickle(settings, _WARM, rows, pause)
        watch(settings, topics.labeled, _WARM + rows, [worker])
        watch(settings, topics.augmented, _WARM + rows, [worker])
        cpu = sum(worker.cpu_times()[:2])
    verified = Counter(
        orjson.loads(record.value)["verify_calls"] is not None
        for record in records(settings, topics.augmented)
    )
    share = verified[True] / verified.total()
    return taken(settings, _WARM, _WARM + rows) | {"rows verified": share, "worker's CPU s": cpu}


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--pause", type=float, default=0.012, help="seconds between two rows")
    chosen = parser.parse_args()
    figures: list[tuple[str, dict[str, float]]] = []
    with stack(clickhouse=False) as settings:
        for share in (0.0, 1.0):
            with (
                endpoint(slots=64, seconds=0.3) as base,
                endpoint(slots=64, seconds=0.3, distinct=True) as writer,
            ):
                here = with_settings(
                    settings,
                    topic_prefix=f"verify{share:g}",
                    topic_partitions=PARTITIONS,
                    llm_labeler_api_base=base,
                    llm_augmenter_api_base=writer,
                    augment_verify=share,
                )
                found = measured(here, chosen.rows, chosen.pause)
                found["labeler calls"] = stats_of(base)["calls"]
            say(f"AUGMENT_VERIFY={share:g}: {found}")
            figures.append((f"AUGMENT_VERIFY={share:g}", found))
    (_, without), (_, everything) = figures
    report(
        "live labels while variants are verified",
        figures,
        as_json=chosen.json,
        ratios={"live p95, all variants verified / none": everything["p95 s"] / without["p95 s"]},
    )


if __name__ == "__main__":
    main()
