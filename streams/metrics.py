"""The roles' metrics by Prometheus' conventions: seconds and totals, one name a thing, labels for kinds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "labelstream"


def counter(name: str, help_: str, labels: Iterable[str], values: Mapping[Any, float]) -> Metric:
    """A counter with one sample for each tuple of label values."""
    family = CounterMetricFamily(f"{PREFIX}_{name}", help_, labels=list(labels))
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def gauge(name: str, help_: str, labels: Iterable[str], values: Mapping[Any, float]) -> Metric:
    """The same for a gauge."""
    family = GaugeMetricFamily(f"{PREFIX}_{name}", help_, labels=list(labels))
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family


def parted(counts: Counter[str], name: str, parts: int) -> dict[tuple[str, ...], float]:
    """Of ``counts`` those whose key is ``name`` and ``parts`` more words behind colons."""
    found: dict[tuple[str, ...], float] = {}
    for key, value in dict(counts).items():
        first, *rest = key.split(":")
        if first == name and len(rest) == parts:
            found[tuple(rest)] = float(value)
    return found


def agents_metrics(counts: Counter[str], in_flight: int, waiting: int) -> Iterable[Metric]:
    """Of the label and augment agents, from the delivery's counts."""
    outcomes = {
        (step[0], outcome): value
        for outcome in ("done", "known", "retries", "dead_letters")
        for step, value in parted(counts, outcome, 1).items()
    }
    yield counter(
        "messages", "Messages worked on, by step and what came of them.", ("step", "outcome"), outcomes
    )
    yield counter("dead_letters", "Messages given up.", ("step", "reason"), parted(counts, "dead_letters", 2))
    yield gauge("messages_in_flight", "Messages at work now.", (), {(): in_flight})
    yield gauge("messages_waiting", "Messages that were read and have not been begun.", (), {(): waiting})


def poller_metrics(counts: Counter[str], watermark: int | None) -> Iterable[Metric]:
    """Of the poller. ``watermark``: microseconds since 1970."""
    rows = {(name,): float(counts[name]) for name in ("read", "published", "same_id")}
    yield counter("source_rows", "Rows of the source table, by what became of them.", ("outcome",), rows)
    yield counter("source_rows_skipped", "Rows left out.", ("reason",), parted(counts, "skipped", 1))
    yield counter(
        "dead_letters",
        "Messages given up.",
        ("step", "reason"),
        {("poll", *key): value for key, value in parted(counts, "dead_letters", 1).items()},
    )
    if watermark is not None:
        yield gauge(
            "source_watermark_timestamp_seconds",
            "How far the source table was read, seconds since 1970.",
            (),
            {(): watermark / 1e6},
        )


def sink_metrics(counts: Counter[str]) -> Iterable[Metric]:
    """Of the sink."""
    yield counter("stored_rows", "Rows inserted.", ("table",), parted(counts, "stored", 1))
    single = {(name,): float(counts[name]) for name in ("inserts", "retries", "already_stored", "unstorable")}
    yield counter("sink_events", "What the sink did.", ("event",), single)
    yield counter(
        "dead_letters",
        "Messages given up.",
        ("step", "reason"),
        {("store", *key): value for key, value in parted(counts, "dead_letters", 1).items()},
    )


def lease_metrics(age: float) -> Iterable[Metric]:
    """How old the last successful heartbeat is; nothing is written from 0.6 of the session on."""
    yield gauge("lease_age_seconds", "Since the last successful heartbeat.", (), {(): age})
