"""Probes of the overview: Kafka, the roles' metrics, the labelled topic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from prometheus_client.parser import text_string_to_metric_families

from connectors.kafka.connection import connection
from connectors.kafka.lag import LagReader, TopicLag
from streams.core.errors import LabelstreamError
from streams.core.settings import Settings
from streams.core.text import bounded
from streams.core.topics import Topics
from streams.observability import metrics as m
from streams.observability.health import run_notes
from streams.ports.label_feed import Feed

_FEED = 20
_FEED_TEXT = 600
_HTTP_SECONDS = 1.0
_AGAIN_SECONDS = 3.0


class TopicProbe:
    """Topics and stages: rates, lags, and the age of the oldest message."""

    def __init__(self, settings: Settings) -> None:
        topics = Topics(settings.topic_prefix)
        self._topics = {
            "rows": topics.rows,
            "replay": topics.replay,
            "labeled": topics.labeled,
            "shadow": topics.shadow,
            "augmented": topics.augmented,
            "dead_letter": topics.dead_letter,
        }
        self._groups = (topics.groups.agents, topics.groups.sink)
        self._lags = LagReader(connection(settings))
        self._open = False
        self._rates = Rates()

    async def look(self) -> dict[str, Any]:
        """``topics`` and ``stages``: the steps, with replays apart from live rows.

        Raises:
            UnavailableError, AccessError.
        """
        if not self._open:
            await self._lags.__aenter__()
            self._open = True
        at = time.monotonic()
        stages: dict[str, list[TopicLag]] = {"label": [], "replay": [], "augment": [], "store": []}
        messages: dict[str, int] = {}
        for group in self._groups:
            for topic, lag in (await self._lags.read(group)).items():
                stage = "replay" if topic == self._topics["replay"] else group.step_of[topic]
                stages[stage].append(lag)
                messages[topic] = lag.messages
        return {
            "topics": {
                key: {
                    "messages": messages.get(name, 0),
                    "rate": round(self._rates.saw(name, at, messages.get(name, 0)), 2),
                }
                for key, name in self._topics.items()
            },
            "stages": {stage: self._stage(stage, lags, at) for stage, lags in stages.items()},
        }

    def _stage(self, stage: str, lags: Sequence[TopicLag], at: float) -> dict[str, Any]:
        oldest = [one.oldest for one in lags if one.oldest is not None]
        done = sum(one.done for one in lags)
        return {
            "rate": round(self._rates.saw(stage, at, done), 2),
            "done": done,
            "lag": sum(one.lag for one in lags),
            "oldest": round(max(0.0, time.time() - min(oldest)), 1) if oldest else None,
        }

    async def close(self) -> None:
        """Close the connections."""
        if self._open:
            await self._lags.__aexit__()


class RoleProbe:
    """The roles whose notes are below LABELSTREAM_DATA, and the endpoints of their agents."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._rates = Rates(10.0)

    async def look(self) -> dict[str, Any]:
        """``roles``, ``endpoints``, ``source``, ``masked``: how much personal data since they began, by
        entity; and ``waits_for``: who writes no more until which group has read.
        """
        return self._told(await asyncio.to_thread(self._scrape))

    def _scrape(self) -> list[tuple[str, str]]:
        found = []
        for note in run_notes(self._data):
            with contextlib.suppress(OSError, ValueError, KeyError):
                told = json.loads(note.read_text())
                with urllib.request.urlopen(f"{told['url']}/metrics", timeout=_HTTP_SECONDS) as answer:
                    found.append((str(told["role"]), answer.read().decode()))
        return found

    def _told(self, scraped: list[tuple[str, str]]) -> dict[str, Any]:
        at = time.monotonic()
        roles: dict[str, dict[str, int]] = {}
        sums: dict[tuple[str, tuple[str, ...]], float] = {}
        reasons: dict[str, str] = {}
        forms: dict[str, str] = {}
        newest: dict[str, float] = {}
        waits: set[tuple[str, str, str]] = set()
        for role, text in scraped:
            entry = roles.setdefault(role, {"processes": 0, "ready": 0})
            entry["processes"] += 1
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    if sample.name == m.ROLE_READY.name:
                        entry["ready"] += int(sample.value)
                    elif sample.name == m.LLM_LIMIT_REASON.name:
                        reasons[sample.labels["endpoint"]] = sample.labels["reason"]
                    elif sample.name == m.WAITS_FOR_READERS.name:
                        step, topic, group = (sample.labels[one] for one in m.WAITS_FOR_READERS.labels)
                        waits.add((step, topic, group))
                    elif sample.name == m.LLM_FORM.name:
                        forms[sample.labels["endpoint"]] = sample.labels["form"]
                    elif sample.name in (m.SOURCE_WATERMARK.name, m.SOURCE_POLLED.name):
                        newest[sample.name] = max(newest.get(sample.name, 0.0), sample.value)
                    elif sample.name in _SUMMED:
                        key = (sample.name, tuple(sample.labels.values()))
                        sums[key] = sums.get(key, 0.0) + sample.value
        return {
            "roles": [{"role": role, **entry} for role, entry in sorted(roles.items())],
            "endpoints": [
                {**self._endpoint(name, sums, reasons.get(name, ""), at), "form": forms.get(name, "")}
                for name in sorted({labels[0] for name, labels in sums if name == m.LLM_LIMIT.name})
            ],
            "source": {
                "watermark": newest.get(m.SOURCE_WATERMARK.name),
                "polled": newest.get(m.SOURCE_POLLED.name),
                "active": int(sums.get((m.SOURCE_ACTIVE.name, ()), 0)),
            },
            "masked": {
                labels[0]: int(count)
                for (name, labels), count in sorted(sums.items())
                if name == m.MASKED.name
            },
            "waits_for": [dict(zip(m.WAITS_FOR_READERS.labels, one, strict=True)) for one in sorted(waits)],
        }

    def _endpoint(
        self, name: str, sums: Mapping[tuple[str, tuple[str, ...]], float], reason: str, at: float
    ) -> dict[str, Any]:
        def value(metric: m.Declared, *labels: str) -> float:
            return sums.get((metric.name, labels), 0.0)

        def rate(metric: m.Declared) -> float:
            return round(self._rates.saw(f"{metric.name} {name}", at, value(metric, name)), 2)

        step = "label" if name.startswith("label") else "augment" if name.startswith("augment") else name
        saved, missed = value(m.CALLS_SAVED, step), value(m.CACHE_REQUESTS, step, "miss")
        queue = sums.get((m.LLM_ENDPOINT_QUEUE.name, (name,)))
        return {
            "name": name,
            "limit": value(m.LLM_LIMIT, name),
            "in_flight": value(m.LLM_IN_FLIGHT, name),
            "available": value(m.LLM_AVAILABLE, name) > 0,
            "reason": reason,
            "queue": value(m.LLM_QUEUE, name, "live"),
            "queue_replay": value(m.LLM_QUEUE, name, "replay"),
            "endpoint_queue": queue,
            "calls": value(m.LLM_CALLS, name),
            "calls_rate": rate(m.LLM_CALLS),
            "failures": value(m.LLM_FAILURES, name),
            "failures_rate": rate(m.LLM_FAILURES),
            "input_rate": rate(m.LLM_INPUT_TOKENS),
            "output_rate": rate(m.LLM_OUTPUT_TOKENS),
            "saved": saved,
            "saved_share": round(saved / (saved + missed), 4) if saved + missed else None,
        }


_SUMMED = {
    one.name
    for one in (
        m.SOURCE_ACTIVE,
        m.MASKED,
        m.LLM_LIMIT,
        m.LLM_IN_FLIGHT,
        m.LLM_AVAILABLE,
        m.LLM_QUEUE,
        m.LLM_ENDPOINT_QUEUE,
        m.LLM_CALLS,
        m.LLM_FAILURES,
        m.LLM_INPUT_TOKENS,
        m.LLM_OUTPUT_TOKENS,
        m.CALLS_SAVED,
        m.CACHE_REQUESTS,
    )
}


class LabelTicker:
    """A sample of the newest labels: a few a second, whatever the rate. ``erased``: another object when
    something was erased; what was kept until then may be of it, and is forgotten.
    """

    def __init__(self, feed: Feed, erased: Callable[[], object]) -> None:
        self._feed = feed
        self._erased = erased
        self._edition = erased()
        self._new: deque[bytes] = deque(maxlen=_FEED)
        self.kept: deque[dict[str, Any]] = deque(maxlen=2 * _FEED)

    async def run(self) -> None:
        """Follow the topic until cancelled."""
        while True:
            with contextlib.suppress(LabelstreamError, StopAsyncIteration):
                async with contextlib.aclosing(self._feed.follow("now", 15.0)) as slices:
                    async for one in slices:
                        self._new.extend(label.data for label in one.labels if label.data)
            await asyncio.sleep(_AGAIN_SECONDS)

    def take(self) -> list[dict[str, Any]]:
        """The labels since the last call, the newest last."""
        found = []
        if (edition := self._erased()) is not self._edition:
            self._edition = edition
            self._new.clear()
            self.kept.clear()
        while self._new:
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
                told = orjson.loads(self._new.popleft())
                shown = {name: told.get(name) for name in _FEED_FIELDS}
                text = str(told["text"])
                found.append({**shown, "text": bounded(text, _FEED_TEXT), "characters": len(text)})
        self.kept.extend(found)
        return found


_FEED_FIELDS = (
    "row_id",
    "created_at",
    "label",
    "confidence",
    "label_version",
    "model",
    "labeled_at",
    "cached",
)


_RATE_SECONDS = 5.0


class Rates:
    """The rates of counters over the last five seconds. A counter that decreases was restarted."""

    def __init__(self, seconds: float = _RATE_SECONDS) -> None:
        self._seconds = seconds
        self._seen: dict[str, deque[tuple[float, float]]] = {}

    def saw(self, name: str, at: float, value: float) -> float:
        """The rate a second with ``value`` at ``at`` (seconds); 0 at first."""
        seen = self._seen.setdefault(name, deque())
        if seen and value < seen[-1][1]:
            seen.clear()
        seen.append((at, value))
        while len(seen) > 2 and seen[1][0] <= at - self._seconds:
            seen.popleft()
        past = at - seen[0][0]
        return (value - seen[0][1]) / past if past > 0 else 0.0
