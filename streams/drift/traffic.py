"""Counts the stored labels by quarters of hours, and compares them with the reference."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.given_labels import labels_at
from connectors.clickhouse.queries.label_versions import current_version, list_versions
from connectors.clickhouse.queries.watching.drift_counts import (
    count_labels,
    labelled_span,
    lateness,
    newest_versions,
    sample_texts,
)
from streams.core.errors import LabelstreamError, LeaseLostError
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.drift.accuracy import JudgedLabel, watched
from streams.drift.checkpoint import AccuracyState, KnownDrift, StoredHour, TrafficState, vocabulary_message
from streams.drift.counts import CONFIDENCE, HOUR_SECONDS, QUARTER_SECONDS, QUARTERS, Counts
from streams.drift.stored_rows import StoredRows
from streams.drift.texts import Vocabulary, look_at
from streams.drift.watch import KEPT_HOURS, DriftFinding, TrafficWatch, parted
from streams.observability.collectors import drift_metrics
from streams.ports.kafka import InFlight, Lease, Sender, Tail
from streams.quality.gate import judged_rows
from streams.runtime.local_stack import with_local_stack

log = structlog.get_logger()

_FIRST_SECONDS, _SECONDS = 60.0, 30.0
_MICROS = 1_000_000
# Rows of so long after its end are stored when a quarter is counted: some of its own may appear late, or have
# the time of a clock that is slow. The last hour tells how late; this at least.
_LATE_SECONDS = 60
# What is older than these quarters is counted by hours, and not judged any more. At first there is nothing
# that was missed.
_RECENT_QUARTERS, _FIRST_QUARTERS = 24 * QUARTERS, 3 * QUARTERS
_PAUSE_SECONDS = 0.02  # between two hours of the past, for those who need the tables
_DAY_HOURS = 24


class TrafficDrift:
    """During one ownership of the cursor's partition."""

    def __init__(
        self,
        settings: Settings,
        topics: Topics,
        *,
        sender: Sender,
        lease: Lease,
        tail: Tail,
        in_flight: InFlight,
        published: Callable[[], int | None],
        generation: int,
    ) -> None:
        """``published``: the time, microseconds since 1970, before which all rows are on the topic."""
        self._settings, self._topics = settings, topics
        self._published = published
        self._stored = StoredRows(topics, settings.topic_partitions, tail, in_flight)
        self._sender, self._lease, self._tail = sender, lease, tail
        self._generation = generation
        self.state: TrafficState | None = None
        self._watch, self._vocabulary = TrafficWatch(), Vocabulary()
        self._loaded = False
        self._accuracy_hour = 0

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Compare what is new, until cancelled."""
        await pause(_FIRST_SECONDS)
        told = ""
        while True:
            try:
                await self.step()
                told = ""
            except LeaseLostError:
                return  # another poller goes on
            except ModuleNotFoundError as error:
                log.warning("drift_not_watched", why=str(error), fix="install labelstream[quality]")
                return
            except LabelstreamError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("drift_not_watched", why=told)
            except Exception:  # rows are polled whatever happens here
                log.exception("drift_not_watched")
            await pause(_SECONDS)

    async def step(self, now: float | None = None) -> None:
        """Count and compare the quarters that have ended since. ``now``: seconds since 1970.

        Raises:
            LeaseLostError: another process owns the cursor.
            UnavailableError, ConfigurationError, AccessError: of Kafka or ClickHouse.
        """
        now = time.time() if now is None else now
        if not self._loaded:
            await self._load()
            self._loaded = True
        published = self._published()
        if published is None:
            return
        settings = await asyncio.to_thread(with_local_stack, self._settings)
        async with ClickHouseClient.from_settings(settings) as client:
            await self._stored.look(published)
            if self._stored.until is None:
                return
            micros = int(now * _MICROS)
            version = await self._version(client, settings, micros)
            if version is None:
                return
            if self.state is not None and self.state.version != version:
                log.info("drift_reference_begins", label_version=version)
                self.state, self._watch, self._vocabulary = None, TrafficWatch(), Vocabulary()
            done = self.state.quarter if self.state else 0
            oldest = max(done - _DAY_HOURS * QUARTERS, 0) * QUARTER_SECONDS * _MICROS
            span = await labelled_span(client, settings, version, oldest, micros)
            if span is None:
                return
            until = min(span[1], self._stored.until)
            last = _last_quarter(until, _LATE_SECONDS)
            first = max(done + 1, span[0] // _MICROS // QUARTER_SECONDS)
            if last >= first:
                late = await lateness(client, settings, until, self._settings.poll_lookback_seconds)
                last = _last_quarter(until, max(late, _LATE_SECONDS))
                first = max(first, last - KEPT_HOURS * QUARTERS)
            if last >= first:
                await self._catch_up(client, settings, version, first, last)
            await self._look_at_accuracy(client, settings, version)

    def measure(self) -> Iterable[Metric]:
        """Metrics."""
        state = self.state
        if state is None:
            return ()
        found = [parted(one.series) for one in state.alarms]
        if state.accuracy is not None and state.accuracy.alarm:
            found.append(("accuracy", "accuracy"))
        return drift_metrics(
            found,
            judged=state.judged,
            compared=state.end.timestamp(),
            evidence=state.accuracy.evidence if state.accuracy else None,
        )

    async def _version(self, client: ClickHouseClient, settings: Settings, now: int) -> str | None:
        """The current version, if live rows have it; else the one that is watched; else that of most rows."""
        live = await newest_versions(client, settings, now)
        current = current_version(await list_versions(client, settings))
        if current is not None and current.version in live:
            return current.version
        if self.state is not None and self.state.version in live:
            return self.state.version
        return max(live, key=lambda name: live[name], default=None)

    async def _catch_up(
        self, client: ClickHouseClient, settings: Settings, version: str, first: int, last: int
    ) -> None:
        recent = _RECENT_QUARTERS if self.state else _FIRST_QUARTERS
        made: list[Outgoing] = []
        for hour in _whole_hours(first, last - recent):
            counts = await self._counts(client, settings, version, hour * HOUR_SECONDS, HOUR_SECONDS)
            if counts.rows or counts.scripts:
                self._watch.add_hour(hour, counts)
                made.append(self._hour(version, hour))
            self.state = self._state(version, (hour + 1) * QUARTERS - 1)
            if len(made) >= _DAY_HOURS:
                await self._send(*made)
                made.clear()
            await asyncio.sleep(_PAUSE_SECONDS)
        await self._send(*made)
        begin = max(first, self.state.quarter + 1 if self.state else 0)
        # The last one of which some are lacking, if only of its beginning.
        lacking = (self._stored.lacking - 1) // (QUARTER_SECONDS * _MICROS)
        for quarter in range(begin, last + 1):
            if quarter <= lacking:  # neither judged nor usual
                self.state = self._state(version, quarter)
                continue
            counts = await self._counts(client, settings, version, quarter * QUARTER_SECONDS, QUARTER_SECONDS)
            before = set(self._watch.alarms)
            new = await asyncio.to_thread(self._watch.add, quarter, counts)
            self.state = self._state(version, quarter)
            for one in new:
                log.warning("drift_found", **_shown(one))
            if quarter % QUARTERS == QUARTERS - 1:
                await self._send(self._hour(version, quarter // QUARTERS))
                await self._send(self.state.message(self._topics))
            elif before != set(self._watch.alarms) or quarter == last:
                await self._send(self.state.message(self._topics))

    async def _counts(
        self, client: ClickHouseClient, settings: Settings, version: str, begin: int, seconds: int
    ) -> Counts:
        day = begin // HOUR_SECONDS // _DAY_HOURS
        if self._vocabulary.turn_to(day):
            await self._send(vocabulary_message(self._topics, self._vocabulary))
        span = begin * _MICROS, (begin + seconds) * _MICROS
        labels = await count_labels(client, settings, version, *span)
        rows = sum(one.rows for one in labels)
        texts = await sample_texts(client, settings, *span, rows)
        scripts, means = await asyncio.to_thread(look_at, texts, self._vocabulary) if texts else ({}, {})
        with_confidence = sum(one.with_confidence for one in labels)
        # A proxy's scores are none of the model's, and it leaves the model the texts that are hard.
        if with_confidence and not any(one.by_proxy for one in labels):
            sums = sum(one.confidence for one in labels), sum(one.squares for one in labels)
            means[CONFIDENCE] = (float(with_confidence), *sums)
        return Counts(labels={one.label: one.rows for one in labels}, scripts=scripts, means=means)

    def _hour(self, version: str, hour: int) -> Outgoing:
        counts = self._watch.hours.get(hour, Counts())
        flagged = sorted(self._watch.flagged.get(hour, ()))
        return StoredHour(version=version, hour=hour, counts=counts, flagged=flagged).message(self._topics)

    def _state(self, version: str, quarter: int) -> TrafficState:
        return TrafficState(
            version=version,
            quarter=quarter,
            hours=len(self._watch.hours),
            judged=self._watch.judged,
            alarms=sorted(self._watch.alarms.values(), key=lambda one: one.chance),
            begins=self._watch.begins,
            accuracy=self.state.accuracy if self.state else None,
        )

    async def _look_at_accuracy(self, client: ClickHouseClient, settings: Settings, version: str) -> None:
        """Once an hour of the labels' time."""
        if self.state is None or self.state.quarter // QUARTERS == self._accuracy_hour:
            return
        self._accuracy_hour = self.state.quarter // QUARTERS
        drawn = [one for one in await judged_rows(client, settings) if one.probability]
        drawn.sort(key=lambda one: one.place.created_at)
        given = await labels_at(client, settings, version, [one.place for one in drawn], with_others=False)
        labels = [
            JudgedLabel(given[one.place].label == one.label, one.probability or 1.0)
            for one in drawn
            if one.place in given
        ]
        if not labels:
            return
        found = watched(labels)
        before = self.state.accuracy
        accuracy = AccuracyState(**found._asdict(), alarm=found.alarm)
        self.state = self.state.model_copy(update={"accuracy": accuracy})
        if accuracy.alarm and not (before and before.alarm):
            log.warning("drift_found", series="accuracy", wrong=found.now, usual=found.wrong)
        if accuracy != before:
            await self._send(self.state.message(self._topics))

    async def _send(self, *messages: Outgoing) -> None:
        if messages:
            await self._lease.hold(self._generation)
            await self._sender.send_many(messages)

    async def _load(self) -> None:
        """What the last poller left. What came after its last whole hour is counted again."""
        known = KnownDrift()
        for topic in (self._topics.versions, self._topics.cursor):
            async for records in self._tail.read(topic, 0, 0):
                for record in records:
                    known.record(record)
        state = known.traffic
        if state is None:
            return
        hour = (state.quarter + 1) // QUARTERS - 1
        for one in sorted(known.hours.values(), key=lambda one: one.hour):
            if one.version == state.version and hour - KEPT_HOURS < one.hour <= hour:
                self._watch.hours[one.hour] = one.counts
                self._watch.flagged[one.hour] = set(one.flagged)
        self._watch.alarms = {one.series: one for one in state.alarms}
        self._watch.begins = dict(state.begins)
        self._watch.judged = state.judged
        if known.vocabulary is not None:
            self._vocabulary = known.vocabulary
            await self._learn_again(known.vocabulary.day * _DAY_HOURS, hour)
        self.state = state.model_copy(update={"quarter": (hour + 1) * QUARTERS - 1})

    async def _learn_again(self, first: int, last: int) -> None:
        """The vocabulary lacks the texts of the day at hand, and is stored when a day begins."""
        settings = await asyncio.to_thread(with_local_stack, self._settings)
        async with ClickHouseClient.from_settings(settings) as client:
            for hour in range(max(first, last - 2 * _DAY_HOURS), last + 1):
                self._vocabulary.turn_to(hour // _DAY_HOURS)
                span = hour * HOUR_SECONDS * _MICROS, (hour + 1) * HOUR_SECONDS * _MICROS
                rows = self._watch.hours.get(hour, Counts()).rows
                texts = await sample_texts(client, settings, *span, rows)
                if texts:
                    await asyncio.to_thread(look_at, texts, self._vocabulary)
                await asyncio.sleep(_PAUSE_SECONDS)


def _last_quarter(until: int, late: float) -> int:
    """The last one that ends so many seconds before ``until``, microseconds since 1970."""
    return int(until / _MICROS - late) // QUARTER_SECONDS - 1


def _whole_hours(first: int, last: int) -> Iterator[int]:
    """The hours that lie in quarters ``first`` to ``last`` and the hour in which ``first`` lies."""
    yield from range(first // QUARTERS, (last + 1) // QUARTERS)


def _shown(one: DriftFinding) -> dict[str, Any]:
    return one.model_dump(mode="json", exclude={"at"})
