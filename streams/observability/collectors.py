"""Fills the metrics that `streams/observability/metrics.py` declares from the counters of the parts."""

from __future__ import annotations

import platform
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, get_args

from prometheus_client.metrics_core import Metric

from streams.core.cascade import CascadeState, Decision
from streams.core.messages import Augmented, Labeled, Row
from streams.core.records import Outage, Partition
from streams.observability import metrics as m
from streams.observability.losses import LossReporter
from streams.observability.tracer import Tracer
from streams.ports.kafka import WaitsFor
from streams.privacy.door import REASON, Door, entity_counts
from streams.privacy.door import STEP as MASK


class Membership(Protocol):
    """What the metrics need of a lease."""

    @property
    def age(self) -> float: ...

    @property
    def joined(self) -> int: ...


class CacheStats(Protocol):
    """What the metrics need of a cache of answers."""

    @property
    def size(self) -> int: ...

    @property
    def results(self) -> Mapping[str, int]: ...


def parted(counts: Counter[str], name: str, parts: int) -> dict[tuple[str, ...], float]:
    """The entries of ``counts`` whose key is ``name``, followed by ``parts`` more words after colons."""
    found: dict[tuple[str, ...], float] = {}
    for key, value in dict(counts).items():
        first, *rest = key.split(":")
        if first == name and len(rest) == parts:
            found[tuple(rest)] = float(value)
    return found


@cache
def release() -> str:
    """The installed version of labelstream."""
    try:
        return version("labelstream")
    except PackageNotFoundError:
        return "unknown"


def role_metrics(role: str, *, ready: bool, healthy: bool) -> Iterable[Metric]:
    """Metrics of every role with a health endpoint."""
    yield m.BUILD_INFO.one(1.0, role, release(), platform.python_version())
    yield m.ROLE_READY.one(float(ready))
    yield m.ROLE_HEALTHY.one(float(healthy))


def supervisor_metrics(restarts: Mapping[str, int], roles: Iterable[str]) -> Iterable[Metric]:
    """Metrics of the process that runs the other roles."""
    yield m.ROLE_RESTARTS.family({(role,): float(restarts.get(role, 0)) for role in roles})


def member_metrics(lease: Membership) -> Iterable[Metric]:
    """Metrics of a member of a consumer group. Before the first heartbeat there is no age."""
    if lease.age != float("inf"):
        yield m.LEASE_AGE.one(lease.age)
    yield m.REBALANCES.one(float(lease.joined))


def agents_metrics(counts: Counter[str], in_flight: int, waiting: int) -> Iterable[Metric]:
    """Metrics of the label and augment agents, from the counters of the delivery."""
    yield m.MESSAGES.family(
        {
            (step[0], outcome): value
            for outcome in ("done", "known", "unwanted", "dead_letters")
            for step, value in parted(counts, outcome, 1).items()
        }
    )
    yield m.STEP_RETRIES.family(parted(counts, "retries", 1))
    yield m.DEAD_LETTERS.family(parted(counts, "dead_letters", 2))
    yield m.IN_FLIGHT.one(in_flight)
    yield m.WAITING.one(waiting)


def trainer_metrics(states: Iterable[CascadeState], *, active: bool) -> Iterable[Metric]:
    """Metrics of a trainer. ``states``: of the cascades, which only the trainer at work tells."""
    found = list(states) if active else []
    certified = [one for one in found if one.state == "certified"]
    yield m.TRAINER_ACTIVE.one(float(active))
    yield m.CASCADE_STATE.family({(one.version, one.state): 1.0 for one in found})
    yield m.CASCADE_COVERAGE.family({(one.version,): one.coverage or 0.0 for one in certified})
    yield m.CASCADE_AUDIT_RATE.family({(one.version,): one.audit_rate for one in certified})
    yield m.CASCADE_AUDITS.family({(one.version,): float(one.audits) for one in certified})
    yield m.CASCADE_DELAY.family(
        {(one.version,): one.delay_minutes * 60 for one in certified if one.delay_minutes is not None}
    )
    yield m.CASCADE_REVOKED.family(
        {(one.version,): one.revoked_at.timestamp() for one in found if one.revoked_at is not None}
    )


def waits_metric(waits: Iterable[WaitsFor], steps: Mapping[str, str]) -> Metric:
    """Who waits for whom. ``steps``: by the topic that they write to."""
    return m.WAITS_FOR_READERS.family(
        {(steps.get(wait.topic, ""), wait.topic, wait.group): 1.0 for wait in waits}
    )


def outage_metric(outages: Mapping[Partition, Outage]) -> Metric:
    """Output partitions that cannot be written."""
    now = time.time()
    return m.PARTITION_OUTAGE.family(
        {(where.topic, str(where.partition)): now - outage.since for where, outage in dict(outages).items()}
    )


def outages_of(outages: Mapping[Partition, Outage]) -> list[dict[str, Any]]:
    """The same for a role's state."""
    return [
        {
            "topic": where.topic,
            "partition": where.partition,
            "since": datetime.fromtimestamp(outage.since, UTC).isoformat(timespec="seconds"),
            "why": outage.why,
        }
        for where, outage in sorted(dict(outages).items())
    ]


def lost_metrics(losses: LossReporter) -> Iterable[Metric]:
    """Messages that retention removed unread."""
    for metric, found in ((m.LOST_MESSAGES, losses.counts), (m.LOST_AT, losses.times)):
        yield metric.family({(topic, losses.group): float(value) for topic, value in dict(found).items()})


def cache_metrics(answers: Mapping[str, CacheStats]) -> Iterable[Metric]:
    """Metrics of the caches of answers, by the step that asks."""
    results = {step: dict(one.results) for step, one in answers.items()}
    yield m.CACHE_REQUESTS.family(
        {
            (step, result): float(found.get(result, 0))
            for step, found in results.items()
            for result in ("hit", "shared", "miss")
        }
    )
    yield m.CACHE_ENTRIES.family({(step,): float(one.size) for step, one in answers.items()})
    yield m.CALLS_SAVED.family(
        {(step,): float(found.get("hit", 0) + found.get("shared", 0)) for step, found in results.items()}
    )


def verify_metrics(counts: Counter[str]) -> Iterable[Metric]:
    """Metrics of the verified variants, from the verifier's counters."""
    yield m.VERIFIED_ROWS.family(parted(counts, "rows", 1))
    yield m.VERIFIED_VARIANTS.family(parted(counts, "variants", 2))
    yield m.VERIFY_ANSWERS.family(parted(counts, "answers", 1))


def cascade_metrics(mode: str, counts: Counter[str]) -> Iterable[Metric]:
    """Metrics of a label step with a cascade, from its router's counters."""
    decisions = ("cache", *get_args(Decision)) if mode != "off" else ()
    yield m.CASCADE_TEXTS.family({(mode, one): float(counts[one]) for one in decisions})


def poller_metrics(
    counts: Counter[str], *, active: bool, watermark: int | None, polled_at: float | None, unread: bool
) -> Iterable[Metric]:
    """Metrics of the poller. ``watermark``: microseconds since 1970; ``polled_at``: seconds."""
    outcomes = ("read", "published", "same_id", "recovered")
    yield m.SOURCE_ROWS.family({(name,): float(counts[name]) for name in outcomes})
    yield m.SOURCE_SKIPPED.family(parted(counts, "skipped", 1))
    yield m.SOURCE_POLLS.one(counts["polls"])
    yield m.SOURCE_ACTIVE.one(float(active))
    yield m.SOURCE_UNREAD.one(float(unread))
    yield m.DEAD_LETTERS.family(_given_up_by_poller(counts))
    if watermark is not None:
        yield m.SOURCE_WATERMARK.one(watermark / 1e6)
    if polled_at is not None:
        yield m.SOURCE_POLLED.one(polled_at)


def canary_metrics(job: dict[str, Any] | None) -> Iterable[Metric]:
    """Metrics of the last canary, as `Jobs.as_dict` tells it; None: there was none."""
    if job is not None and (stop := job["stopped"]) is not None:
        at = datetime.fromisoformat(stop["at"]).timestamp()
        yield m.CANARY_STOPPED.one(at, str(job["version"]), stop["why"])


def drift_metrics(
    alarms: Iterable[tuple[str, str]], *, judged: int, compared: float | None, evidence: float | None
) -> Iterable[Metric]:
    """Metrics of the comparison with the reference. ``alarms``: signal and name. ``compared``: seconds since
    1970; None before the first one.
    """
    if compared is None:
        return
    yield m.DRIFT.family(dict.fromkeys(alarms, 1.0))
    yield m.DRIFT_JUDGED.one(float(judged))
    yield m.DRIFT_AT.one(compared)
    if evidence is not None:
        yield m.DRIFT_ACCURACY.one(evidence)


def model_metrics(version: str, *, changed: bool, differs: float | None) -> Iterable[Metric]:
    """Metrics of the worker that asks texts again. ``differs``: None before the first round."""
    if differs is not None:
        yield m.MODEL_CHANGED.one(float(changed), version)
        yield m.MODEL_DIFFERS.one(differs, version)


def _given_up_by_poller(counts: Counter[str]) -> dict[tuple[str, ...], float]:
    unmasked = f"dead_letters:{REASON}"
    found = _of_step("poll", Counter({key: n for key, n in counts.items() if key != unmasked}))
    return found | ({(MASK, REASON): float(counts[unmasked])} if counts[unmasked] else {})


def privacy_metrics(door: Door | None) -> Iterable[Metric]:
    """Metrics of what masks rows; none where nothing does."""
    if door is not None:
        yield m.MASKED.family({(one,): float(n) for one, n in entity_counts(door.counts).items()})
        yield m.MASKED_TEXTS.family(
            {
                ("masked",): float(door.counts["texts"] - door.counts["failed"]),
                ("failed",): float(door.counts["failed"]),
            }
        )


def privacy_state(door: Door | None) -> dict[str, Any]:
    """The same for a role's state: `off`, or the numbers since it began."""
    if door is None:
        return {"mode": "off"}
    masked = {one.value: n for one, n in entity_counts(door.counts).items() if n}
    return {
        "mode": "mask",
        "texts": door.counts["texts"],
        "failed": door.counts["failed"],
        "masked": masked,
    }


def span_metrics(tracer: Tracer | None) -> Iterable[Metric]:
    """Metrics of the exported spans; none where no traces are."""
    if tracer is not None:
        yield m.SPANS.family({(what,): float(count) for what, count in dict(tracer.exporter.counts).items()})


class ApiRequests:
    """Counts and times requests of the API."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._seconds = m.Histogram(m.API_SECONDS)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """``route``: its path with the names of its parameters, never what a client sent."""
        self._counts[route, method, str(status)] += 1
        self._seconds.series(route).observe(seconds)

    def collect(self) -> Iterable[Metric]:
        """Both metrics."""
        yield m.API_REQUESTS.family({key: float(count) for key, count in dict(self._counts).items()})
        yield self._seconds.collect()


class StageLatency:
    """Pass `observe` to the delivery: measures how long live rows take to their label, and to their
    variants.
    """

    def __init__(self) -> None:
        self.histogram = m.Histogram(m.STAGE_LATENCY)
        self._labeled = self.histogram.series(m.POLLED_TO_LABELED)
        self._augmented = self.histogram.series(m.LABELED_TO_AUGMENTED)

    def observe(self, message: Row) -> None:
        """Observe a message that was published."""
        # By class: isinstance() with pydantic's classes takes ten times as long.
        if type(message) is Augmented:
            self._augmented.observe((message.augmented_at - message.labeled_at).total_seconds())
        elif type(message) is Labeled:
            self._labeled.observe((message.labeled_at - message.polled_at).total_seconds())


def sink_metrics(counts: Counter[str]) -> Iterable[Metric]:
    """Metrics of the sink."""
    yield m.STORED_ROWS.family(parted(counts, "stored", 1))
    yield m.SINK_MESSAGES.family(
        {
            (why,): float(counts[key])
            for key, why in (
                ("already_stored", "known"),
                ("unwanted", "unwanted"),
                ("erased", "erased"),
                ("unstorable", "unstorable"),
            )
        }
    )
    yield m.SINK_INSERTS.one(counts["inserts"])
    yield m.SINK_RETRIES.one(counts["retries"])
    yield m.DEAD_LETTERS.family(_of_step("store", counts))


def _of_step(step: str, counts: Counter[str]) -> dict[tuple[str, ...], float]:
    return {(step, *key): value for key, value in parted(counts, "dead_letters", 1).items()}
