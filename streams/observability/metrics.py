"""The metrics of the roles, each declared once, by Prometheus' conventions: seconds and totals, labels for
kinds.

`docs/reference/metrics.md` is made from the declarations; `streams/observability/collectors.py` fills them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

PREFIX = "labelstream"

_POLLER, _AGENTS, _SINK, _ALL = ("poller",), ("agents",), ("sink",), ("all",)
_API, _FETCHER, _TRAINER = ("api",), ("fetcher",), ("trainer",)
_WORKERS = (*_POLLER, *_AGENTS, *_SINK)
# Every role with a health endpoint.
EVERY_ROLE = ("every role",)

# Seconds: from a cached answer to a day's outage; from a short answer to the longest that is waited for.
STAGE_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)
CALL_BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(frozen=True)
class Declared:
    """One metric. ``name`` as in queries, without a histogram's `_bucket`, `_sum` and `_count`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    roles: tuple[str, ...]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    def family(self, values: Mapping[Any, float]) -> Metric:
        """A counter or a gauge with one sample for each tuple of label values; `()` if it has no labels."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.help, labels=self.labels)
        for key, value in values.items():
            family.add_metric(key, value)
        return family

    def one(self, value: float, *labels: str) -> Metric:
        """The same with a single sample."""
        return self.family({labels: value})


def _counter(name: str, roles: tuple[str, ...], help_: str, *labels: str) -> Declared:
    return Declared(f"{PREFIX}_{name}_total", "counter", roles, help_, labels)


def _gauge(name: str, roles: tuple[str, ...], help_: str, *labels: str) -> Declared:
    return Declared(f"{PREFIX}_{name}", "gauge", roles, help_, labels)


def _histogram(
    name: str, roles: tuple[str, ...], help_: str, bounds: tuple[float, ...], *labels: str
) -> Declared:
    return Declared(f"{PREFIX}_{name}", "histogram", roles, help_, labels, bounds)


# --- every role ---
BUILD_INFO = _gauge("build_info", EVERY_ROLE, "What runs; always 1.", "role", "version", "python")
ROLE_READY = _gauge("role_ready", EVERY_ROLE, "1 while the role is at work, 0 while it waits for a part.")
ROLE_HEALTHY = _gauge("role_healthy", EVERY_ROLE, "1 while the event loop turns and work makes progress.")
ROLE_RESTARTS = _counter("role_restarts", _ALL, "Roles that ended and were started again.", "role")

# --- those that are members of a consumer group ---
LEASE_AGE = _gauge(
    "lease_age_seconds",
    _WORKERS,
    "Since the last heartbeat that was believed; nothing is written from 0.6 of the session on.",
)
REBALANCES = _counter("rebalances", _WORKERS, "Assignments of partitions to this process.")
DEAD_LETTERS = _counter("dead_letters", _WORKERS, "Messages given up.", "step", "reason")
STAGE_LATENCY = _histogram(
    "stage_latency_seconds",
    _WORKERS,
    "From one point of a live row's way to the next; replays are left out.",
    STAGE_BOUNDS,
    "stage",
)
LAG_MESSAGES = _gauge(
    "lag_messages",
    (*_AGENTS, *_SINK),
    "Messages of this process's partitions that are not done. Looked at every 10 s.",
    "step",
    "topic",
)
WAITS_FOR_READERS = _gauge(
    "waits_for_readers",
    (*_POLLER, *_AGENTS, *_API, *_FETCHER, *_TRAINER),
    "1 while no more is written to a topic, because retention would take it before this group has read it.",
    "step",
    "topic",
    "group",
)
LOST_MESSAGES = _counter(
    "lost_messages",
    (*_AGENTS, *_SINK),
    "Messages that retention took before this group had read them; their rows are looked for again.",
    "topic",
    "group",
)
LOST_AT = _gauge(
    "lost_messages_timestamp_seconds",
    (*_AGENTS, *_SINK),
    "When this process last found that retention had taken messages unread, seconds since 1970.",
    "topic",
    "group",
)
PARTITION_OUTAGE = _gauge(
    "partition_outage_seconds",
    _WORKERS,
    "For how long an output partition has not been writable, while something waits to be written to it.",
    "topic",
    "partition",
)
LAG_SECONDS = _gauge(
    "lag_seconds", (*_AGENTS, *_SINK), "Age of the oldest of them; 0 without any.", "step", "topic"
)

# --- poller ---
SOURCE_ROWS = _counter("source_rows", _POLLER, "Rows of the source table, by what became of them.", "outcome")
SOURCE_SKIPPED = _counter("source_rows_skipped", _POLLER, "Rows left out.", "reason")
SOURCE_POLLS = _counter("source_polls", _POLLER, "Looks at the source table.")
SOURCE_ACTIVE = _gauge("source_active", _POLLER, "1 for the poller at work, 0 for one that stands by.")
SOURCE_UNREAD = _gauge(
    "source_unread",
    _POLLER,
    "1 while nothing is published of a source table that has rows; the log and /state say why.",
)
MASKED = _counter(
    "masked_entities", (*_POLLER, *_API, *_FETCHER), "Personal data replaced by placeholders.", "entity"
)
MASKED_TEXTS = _counter(
    "masked_texts", (*_POLLER, *_API, *_FETCHER), "Texts that were masked, or could not be.", "outcome"
)
SOURCE_WATERMARK = _gauge(
    "source_watermark_timestamp_seconds",
    _POLLER,
    "How far the source table was read, seconds since 1970.",
)
SOURCE_POLLED = _gauge(
    "source_last_poll_timestamp_seconds",
    _POLLER,
    "When the source table was last read without an error, seconds since 1970.",
)
CANARY_STOPPED = _gauge(
    "canary_stopped_timestamp_seconds", _POLLER, "When and why the last canary ended.", "version", "why"
)

DRIFT = _gauge(
    "drift",
    _POLLER,
    "1 while labels, texts or their accuracy differ from the reference: `label`, `script`, `mean` or "
    "`accuracy`, and of what.",
    "signal",
    "name",
)
DRIFT_JUDGED = _gauge(
    "drift_judged_series", _POLLER, "Series that the reference knows enough about; 0 while it is learnt."
)
DRIFT_AT = _gauge(
    "drift_compared_timestamp_seconds",
    _POLLER,
    "Up to which time of the rows they were compared with the reference, seconds since 1970.",
)
DRIFT_ACCURACY = _gauge(
    "drift_accuracy_evidence",
    _POLLER,
    "How strongly audited rows say that labels are wrong more often than they were; an alarm from 10,000 on.",
)

NEW_GROUPS = _gauge(
    "new_groups",
    _POLLER,
    "Groups of alike rows that no label fits, and that are new or have grown threefold: `labelstream "
    "discover` shows them. Looked for every hour.",
)
NEW_GROUP_ROWS = _gauge("new_group_rows", _POLLER, "Rows of the largest of these groups.")

# --- agents ---
MESSAGES = _counter(
    "messages", _AGENTS, "Messages that are done, by step and what came of them.", "step", "outcome"
)
STEP_RETRIES = _counter("step_retries", _AGENTS, "Times that a step was tried again.", "step")
IN_FLIGHT = _gauge("messages_in_flight", _AGENTS, "Messages at work now.")
WAITING = _gauge("messages_waiting", _AGENTS, "Messages that were read and have not been begun.")
LABEL_VERSION = _gauge(
    "label_version_info", _AGENTS, "The label version of live rows; always 1.", "label_version", "model"
)
CACHE_REQUESTS = _counter(
    "answer_cache_requests",
    _AGENTS,
    "Questions by where the answer came from: memory (`hit`), another's call (`shared`), a call (`miss`).",
    "step",
    "result",
)
CACHE_ENTRIES = _gauge("answer_cache_entries", _AGENTS, "Answers that are remembered.", "step")
CALLS_SAVED = _counter("llm_calls_saved", _AGENTS, "Questions answered without a call of their own.", "step")

VERIFIED_ROWS = _counter(
    "verified_rows",
    _AGENTS,
    "Rows drawn to have their variants labelled (AUGMENT_VERIFY): `verified`; published unverified, because "
    "the labels took too long (`late`); or because the model gave a variant none (`unanswered`).",
    "result",
)
VERIFIED_VARIANTS = _counter(
    "verified_variants",
    _AGENTS,
    "Variants of verified rows that kept their row's label, or changed it and were rejected.",
    "label",
    "result",
)
VERIFY_ANSWERS = _counter(
    "verify_answers", _AGENTS, "Labels of variants, by where they came from: `call` or `cache`.", "source"
)

MODEL_CHANGED = _gauge(
    "model_changed",
    _AGENTS,
    "1 while texts that are asked again tell that another model answers under the name; of the worker that "
    "asks.",
    "label_version",
)
MODEL_DIFFERS = _gauge(
    "model_differs_ratio",
    _AGENTS,
    "Share of the texts that were asked again with another answer than at first.",
    "label_version",
)
CASCADE_TEXTS = _counter(
    "cascade_texts",
    _AGENTS,
    "Texts to be labelled, by what became of them: `cache`, `proxy`; or the model's, because it is an "
    "`audit`, the proxy is `unsure`, may not give that label (`vetoed`), does not know such texts (`novel`), "
    "or `none` is certified. With CASCADE=shadow the model labels all but `cache`: this is what would be.",
    "mode",
    "decision",
)

# --- LLM endpoints ---
LLM_LIMIT = _gauge(
    "llm_limit", _AGENTS, "Requests that may be in flight now; 0 while it is away.", "endpoint"
)
LLM_LIMIT_REASON = _gauge(
    "llm_limit_reason",
    _AGENTS,
    "Why the limit was last changed, or `away`; always 1.",
    "endpoint",
    "reason",
)
LLM_FORM = _gauge(
    "llm_form", _AGENTS, "What requests hold, as far as the endpoint takes it; always 1.", "endpoint", "form"
)
LLM_IN_FLIGHT = _gauge("llm_in_flight", _AGENTS, "Requests in flight.", "endpoint")
LLM_AVAILABLE = _gauge("llm_available", _AGENTS, "1 while the endpoint answers.", "endpoint")
LLM_QUEUE = _gauge("llm_queue", _AGENTS, "Requests that wait here for a place.", "endpoint", "class")
LLM_ENDPOINT_QUEUE = _gauge(
    "llm_endpoint_queue", _AGENTS, "Requests that wait at the endpoint, where it tells.", "endpoint"
)
LLM_CALLS = _counter("llm_calls", _AGENTS, "Requests sent.", "endpoint")
LLM_FAILURES = _counter("llm_failures", _AGENTS, "Requests that failed.", "endpoint")
LLM_RETRIES = _counter("llm_retries", _AGENTS, "Requests sent again.", "endpoint")
LLM_INPUT_TOKENS = _counter(
    "llm_input_tokens", _AGENTS, "Tokens that the model read, where the endpoint tells.", "endpoint"
)
LLM_OUTPUT_TOKENS = _counter("llm_output_tokens", _AGENTS, "Tokens that the model wrote.", "endpoint")
LLM_CALL_SECONDS = _histogram(
    "llm_call_seconds", _AGENTS, "From a request to its answer.", CALL_BOUNDS, "endpoint"
)

# --- sink ---
STORED_ROWS = _counter("stored_rows", _SINK, "Rows inserted.", "table")
SINK_MESSAGES = _counter(
    "sink_messages_passed_over",
    _SINK,
    "Messages not inserted: in the table already (`known`), of a dropped replay (`unwanted`), of rows that "
    "were `erased`, `unstorable`.",
    "why",
)
SINK_INSERTS = _counter("sink_inserts", _SINK, "Insert statements that succeeded.")
SINK_RETRIES = _counter("sink_retries", _SINK, "Insert statements tried again.")

# --- API ---
API_REQUESTS = _counter(
    "api_requests",
    _API,
    "Requests answered, by the route's path and the status.",
    "route",
    "method",
    "status",
)
API_SECONDS = _histogram(
    "api_response_seconds", _API, "From a request to the beginning of its answer.", CALL_BOUNDS, "route"
)

SPANS = _counter(
    "spans",
    _WORKERS,
    "Spans for the collector: exported, dropped because too many waited, and failed: not taken by it. Only "
    "where traces are exported.",
    "result",
)

# --- the trainer at work ---
TRAINER_ACTIVE = _gauge("trainer_active", _TRAINER, "1 for the trainer at work, 0 for one that stands by.")
CASCADE_STATE = _gauge(
    "cascade_state",
    _TRAINER,
    "1 for the state of a label version's cascade: learning, certified or revoked.",
    "label_version",
    "state",
)
CASCADE_COVERAGE = _gauge(
    "cascade_coverage",
    _TRAINER,
    "Share of distinct texts that a certified proxy is sure of.",
    "label_version",
)
CASCADE_AUDIT_RATE = _gauge(
    "cascade_audit_rate", _TRAINER, "Share of these that the model labels all the same.", "label_version"
)
CASCADE_AUDITS = _gauge(
    "cascade_audits", _TRAINER, "Texts audited since the proxy was certified.", "label_version"
)
CASCADE_DELAY = _gauge(
    "cascade_delay_seconds",
    _TRAINER,
    "In which time the audits find a proxy whose labels have become worse.",
    "label_version",
)
CASCADE_REVOKED = _gauge(
    "cascade_revoked_timestamp_seconds",
    _TRAINER,
    "When a proxy of the version was last revoked, seconds since 1970.",
    "label_version",
)

METRICS: tuple[Declared, ...] = tuple(one for one in globals().values() if isinstance(one, Declared))

# The stages of STAGE_LATENCY.
CREATED_TO_POLLED = "created_to_polled"
POLLED_TO_LABELED = "polled_to_labeled"
LABELED_TO_AUGMENTED = "labeled_to_augmented"
CREATED_TO_STORED = "created_to_stored"
CREATED_TO_AUGMENTED_STORED = "created_to_augmented_stored"


class Histogram:
    """The observations of one declared histogram. One thread observes, any thread may collect."""

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._series: dict[tuple[str, ...], Series] = {}

    def series(self, *labels: str) -> Series:
        """The series with these label values; from now on it exists, even if it is empty."""
        return self._series.setdefault(labels, Series(self._declared.bounds))

    def collect(self) -> Metric:
        """All series with their present values."""
        declared = self._declared
        family = HistogramMetricFamily(declared.name, declared.help, labels=declared.labels)
        for labels, series in list(self._series.items()):
            counts, total = list(series.counts), series.total
            names = [*map(str, declared.bounds), "+Inf"]
            family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), total)
        return family


class Series:
    """Counts of one series by bucket; the last bucket is unbounded."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one. Clocks of two machines may differ: negative times count as zero."""
        seconds = max(seconds, 0.0)
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def observe_all(self, seconds: Any) -> None:
        """Count an array of them (float64, numpy), at some 20 ns each."""
        import numpy as np

        seconds = np.maximum(seconds, 0.0)
        found = np.bincount(np.searchsorted(self.bounds, seconds), minlength=len(self.counts))
        for bucket in np.flatnonzero(found):
            self.counts[bucket] += int(found[bucket])
        self.total += float(seconds.sum())
