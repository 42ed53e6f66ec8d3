"""The metrics' declarations and conventions, and that histograms count right and cost little."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client import Histogram as TheirHistogram
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from connectors.kafka.backlog import Backlog
from connectors.llm.limit import LimitState
from streams.core.errors import UnavailableError
from streams.core.messages import Labeled
from streams.core.records import Partition
from streams.observability.collectors import StageLatency, cache_metrics
from streams.observability.metrics import METRICS, STAGE_LATENCY, Declared, Histogram
from streams.pipeline.llm_metrics import EndpointReading, llm_metrics
from streams.runtime.lag_metrics import Lags


def text_of(found: Iterable[Metric]) -> str:
    class Some(Collector):
        def collect(self) -> Iterable[Metric]:
            return list(found)

    registry = CollectorRegistry()
    registry.register(Some())
    return generate_latest(registry).decode()


def samples(found: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text_of(found))
        for sample in family.samples
    }


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_keep_to_the_conventions(metric: Declared) -> None:
    assert metric.name.startswith("labelstream_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert (metric.kind == "histogram") == bool(metric.bounds)
    assert not metric.name.endswith(("_bucket", "_count", "_sum", "_ms", "_minutes", "_hours"))
    assert metric.help.endswith(".")
    assert not {"le", "quantile", "instance", "job"} & set(metric.labels)
    assert list(metric.bounds) == sorted(set(metric.bounds))


def test_each_metric_is_declared_once() -> None:
    names = [metric.name for metric in METRICS]
    assert len(names) == len(set(names))
    assert len(names) > 30


def test_a_histogram_counts_as_prometheus_own() -> None:
    observed = [0.0, 0.05, 0.0500001, 0.2, 1.0, 7.0, 90000.0, -3.0]
    ours = Histogram(STAGE_LATENCY)
    one_by_one, at_once = ours.series("a"), ours.series("b")
    theirs = TheirHistogram(
        "labelstream_stage_latency_seconds", "x", ["stage"], registry=None, buckets=STAGE_LATENCY.bounds
    )
    for seconds in observed:
        one_by_one.observe(seconds)
        theirs.labels("a").observe(max(seconds, 0.0))
    at_once.observe_all(np.array(observed))
    found, expected = samples([ours.collect()]), samples(theirs.collect())
    for (name, labels), value in expected.items():
        if not name.endswith("_created"):
            assert found[name, labels] == pytest.approx(value)
            assert found[name, tuple((k, "b" if k == "stage" else v) for k, v in labels)] == pytest.approx(
                value
            )
    assert found["labelstream_stage_latency_seconds_count", (("stage", "a"),)] == len(observed)


def test_an_observation_costs_little_beside_a_row() -> None:
    series = Histogram(STAGE_LATENCY).series("a")
    theirs = TheirHistogram("x", "x", ["stage"], registry=None, buckets=STAGE_LATENCY.bounds).labels("a")

    def cost(observe: object) -> float:
        best = float("inf")
        for _ in range(5):
            began = time.thread_time()
            for _ in range(2000):
                observe(0.7)  # type: ignore[operator]
            best = min(best, time.thread_time() - began)
        return best

    assert cost(series.observe) < cost(theirs.observe)


def test_live_stages_are_told_apart() -> None:
    latency = StageLatency()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    latency.observe(
        Labeled(
            row_id="1",
            text="t",
            created_at=now,
            polled_at=now,
            label="other",
            label_version="v",
            model="m",
            labeled_at=now + timedelta(seconds=3),
        )
    )
    found = samples([latency.histogram.collect()])
    total = "labelstream_stage_latency_seconds_sum"
    assert found[total, (("stage", "polled_to_labeled"),)] == 3
    assert found[total, (("stage", "labeled_to_augmented"),)] == 0


def test_an_error_s_text_never_becomes_a_label() -> None:
    away = LimitState(0, 0, 0, 0, False, "http://10.0.0.1 does not answer", None)
    text = text_of(llm_metrics({"labeler": EndpointReading(away, Counter())}))
    assert "10.0.0.1" not in text
    assert 'reason="away"' in text


class _Cache:
    size = 7
    results = {"hit": 5, "shared": 2, "miss": 3}  # noqa: RUF012


def test_calls_saved_are_the_questions_without_a_call() -> None:
    found = samples(cache_metrics({"label": _Cache()}))
    assert found["labelstream_llm_calls_saved_total", (("step", "label"),)] == 7
    assert found["labelstream_answer_cache_entries", (("step", "label"),)] == 7


class _Reader:
    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    async def read(self, positions: object) -> object:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None: ...


async def test_lag_is_summed_over_partitions_and_aged_by_the_oldest() -> None:
    now = time.time()
    seen = {
        Partition("rows", 0): Backlog(5, now - 40),
        Partition("rows", 1): Backlog(2, now - 90),
        Partition("replay", 0): Backlog(0, None),
    }
    reader = _Reader(seen, UnavailableError("away", setting="KAFKA_BOOTSTRAP_SERVERS"))
    lags = Lags(reader, {"rows": "label", "replay": "label"}, dict)  # type: ignore[arg-type]
    await lags.look()
    await lags.look()  # Kafka is away: what was seen last stands
    found = samples(lags.measure())
    rows, replay = (("step", "label"), ("topic", "rows")), (("step", "label"), ("topic", "replay"))
    assert found["labelstream_lag_messages", rows] == 7
    assert 90 <= found["labelstream_lag_seconds", rows] < 190
    assert found["labelstream_lag_messages", replay] == found["labelstream_lag_seconds", replay] == 0
