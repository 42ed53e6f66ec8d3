"""How many output tokens does a label cost in choice mode? ``python -m bench.tokens [--json]``.

Counted by the local stack's stand-in, which answers with one letter as a model would.
"""

from __future__ import annotations

from pathlib import Path

from bench.endpoint import endpoint, stats_of
from bench.harness import options, report, stack
from bench.running import distinct_texts, fill_rows, make_topics, role, watch, with_settings
from streams.core.topics import Topics


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=500)
    chosen = parser.parse_args()
    taxonomy = Path(__file__).resolve().parents[1] / "taxonomy.yaml"
    figures = []
    with (
        stack(clickhouse=False, llm=True, llm_args=["--taxonomy", str(taxonomy)]) as settings,
        endpoint(slots=0) as silent,
    ):
        assert settings.llm_labeler_api_base is not None
        for mode in ("json", "choice"):
            here = with_settings(
                settings,
                topic_prefix=mode,
                topic_partitions=4,
                llm_augmenter_api_base=silent,
                llm_labeler_mode=mode,
            )
            make_topics(here)
            fill_rows(here, distinct_texts(chosen.rows))
            before = stats_of(settings.llm_labeler_api_base)["tokens"]["completion"]
            with role("agents", here, settings.labelstream_data / mode) as worker:
                watch(here, Topics(mode).labeled, chosen.rows, [worker])
                tokens = stats_of(settings.llm_labeler_api_base)["tokens"]["completion"] - before
            figures.append((mode, {"labels": chosen.rows, "tokens a label": tokens / chosen.rows}))
    report(
        "output tokens of a label",
        figures,
        as_json=chosen.json,
        ratios={"output tokens a label in choice mode": figures[1][1]["tokens a label"]},
    )


if __name__ == "__main__":
    main()
