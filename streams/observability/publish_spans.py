"""The spans of those who publish rows: the poller, and jobs that publish rows again.

A page of many rows has a span in a trace of its own, and each of its rows that is sampled has two in the
row's trace: `poll`, with a link to the page's, and `publish`, which the message names as its parent. Who
publishes a row again gives it a new trace, with a link to the row's first one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from streams.core.codec import REPLAY_JOB, RETRY_OF
from streams.core.context import TRACEPARENT
from streams.core.records import Outgoing, Run
from streams.observability.tracer import MOST_LINKS, Tracer, again_for
from streams.ports.spans import (
    Span,
    SpanContext,
    SpanKind,
    Value,
    context_in,
    new_span_id,
    new_trace_id,
    trace_again,
)

# Rows with spans, at once and a second: a table that is read from its beginning has a hundred thousand rows a
# second, and two spans cost more than reading one.
_MOST_ROWS, _ROWS_A_SECOND = 2_000, 500

_Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]


class PublishSpans:
    """Makes the spans of one publisher of rows from ``source``, by the name of its ``step``."""

    def __init__(
        self, tracer: Tracer, step: str, source: str, dead_letter: str, *, again: bool = False
    ) -> None:
        """``dead_letter``: the topic whose messages are always recorded. ``again``: whether the rows may have
        been published before.
        """
        self.tracer = tracer
        self.step = step
        self.source = source
        self.dead_letter = dead_letter
        self.again = again
        self._left = float(_MOST_ROWS)  # rows that may have spans now
        self._at = time.monotonic()

    def page(self) -> PageSpan:
        """The span of a page that begins now."""
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * _ROWS_A_SECOND, _MOST_ROWS)
        self._at = now
        return PageSpan(self)

    def take(self) -> bool:
        """Whether one more row may have spans; if not, they are counted."""
        if self._left < 1 or self.tracer.exporter.full:
            self.tracer.exporter.dropped(2)
            return False
        self._left -= 1
        return True


class PageSpan:
    """Publishing one page of rows. Pass each run of messages through `watch` before it is sent."""

    def __init__(self, spans: PublishSpans) -> None:
        self.spans = spans
        self.context = SpanContext(new_trace_id(), new_span_id(), True)
        self.started = self.sending = self.ended = time.time_ns()
        self._rows = 0
        self._recorded = False
        self._runs: list[WatchedRun] = []

    def watch(self, run: Run) -> WatchedRun:
        """``run``, whose messages have spans from now on."""
        self.sending = time.time_ns()
        watched = WatchedRun(self, run)
        self._runs.append(watched)
        return watched

    def handed_over(self, rows: int) -> None:
        """All runs are with the producer; the page had so many rows."""
        self.ended, self._rows = time.time_ns(), rows

    def end(self) -> None:
        """Some of it is confirmed: record it, once."""
        if self._recorded:
            return
        self._recorded = True
        found = [one.context for run in self._runs for one in run.found[:MOST_LINKS]][:MOST_LINKS]
        about: dict[str, Value] = {
            "db.system.name": "clickhouse",
            "db.collection.name": self.spans.source,
            "db.response.returned_rows": self._rows,
        }
        self.spans.tracer.record(
            Span(
                f"{self.spans.step} page",
                SpanKind.INTERNAL,
                self.context,
                b"",
                self.started,
                self.ended,
                about,
                found,
            )
        )


class _Traced:
    """A message of a run that is recorded. ``at``: its place in the run."""

    __slots__ = ("again", "at", "context", "failed", "first", "row_id")

    def __init__(
        self,
        at: int,
        row_id: str,
        context: SpanContext,
        first: SpanContext | None,
        again: dict[str, Value],
        failed: str,
    ) -> None:
        self.at = at
        self.row_id = row_id
        self.context = context
        self.first = first
        self.again = again
        self.failed = failed


class WatchedRun:
    """A run whose sampled messages say so in their header. Give `run` to the producer."""

    def __init__(self, page: PageSpan, run: Run) -> None:
        self.found: list[_Traced] = []
        self._page = page
        self._topic, self._partition = run.topic, run.partition
        self.run = Run(run.topic, run.partition, self._messages(run.messages))

    def _messages(self, messages: Iterator[_Message]) -> Iterator[_Message]:
        spans = self._page.spans
        always, begins = self._topic == spans.dead_letter, spans.tracer.begins_with
        place = 0
        for at, (key, value, headers) in enumerate(messages):
            # Mostly where it was in the message before.
            if place >= len(headers) or headers[place][0] != TRACEPARENT:
                place = next((i for i, (name, _) in enumerate(headers) if name == TRACEPARENT), len(headers))
            if place < len(headers):
                cause = again_for(headers) if spans.again and not always else None
                if always or cause is not None or begins(headers[place][1]):
                    headers = self._traced(at, key, headers, place, cause, always)
            yield key, value, headers

    def _traced(
        self,
        at: int,
        key: bytes | None,
        headers: list[tuple[str, bytes]],
        place: int,
        cause: bytes | None,
        always: bool,
    ) -> list[tuple[str, bytes]]:
        first = context_in(headers[place][1])
        if first is None:
            return headers
        tracer = self._page.spans.tracer
        if cause is None:
            context, first = first._replace(sampled=True), None
        else:
            trace_id = trace_again(first.trace_id, cause)
            context = SpanContext(trace_id, new_span_id(), tracer.begins(trace_id))
        headers = [*headers[:place], (TRACEPARENT, context.header), *headers[place + 1 :]]
        if not context.sampled:
            return headers
        if not self._page.spans.take():
            return headers
        known = dict(headers)
        again: dict[str, Value] = {
            name: known[header].decode("utf-8", "replace")
            for name, header in (("labelstream.replay_job", REPLAY_JOB), ("labelstream.retry_of", RETRY_OF))
            if header in known
        }
        failed = known.get("reason", b"").decode("utf-8", "replace") if always else ""
        row_id = (key or b"").decode("utf-8", "replace")
        self.found.append(_Traced(at, row_id, context, first, again, failed))
        return headers

    def confirmed(self, batches: Sequence[tuple[int, int]]) -> None:
        """Kafka has it: where the batches begin, and how many messages they have."""
        if not self.found:
            return
        self._page.end()
        spans, now = self._page.spans, time.time_ns()
        starts = iter(batches)
        base, count = next(starts, (0, 0))
        before = 0  # messages of earlier batches
        for one in self.found:
            while one.at >= before + count and (following := next(starts, None)) is not None:
                before += count
                base, count = following
            about: dict[str, Value] = {
                "labelstream.row_id": one.row_id,
                **one.again,
            }
            root = SpanContext(one.context.trace_id, new_span_id(), True)
            page = self._page
            links = [page.context] if one.first is None else [page.context, one.first]
            spans.tracer.record(
                Span(spans.step, SpanKind.INTERNAL, root, b"", page.started, page.ended, about, links)
            )
            spans.tracer.record(
                Span(
                    "publish",
                    SpanKind.PRODUCER,
                    one.context,
                    root.span_id,
                    page.sending,
                    now,
                    {
                        "messaging.system": "kafka",
                        "messaging.operation.name": "send",
                        "messaging.operation.type": "send",
                        "messaging.destination.name": self._topic,
                        "messaging.destination.partition.id": str(self._partition),
                        "messaging.kafka.offset": base + one.at - before,
                        **about,
                    },
                    failed=one.failed,
                )
            )


def watch_one(page: PageSpan, message: Outgoing) -> tuple[Outgoing, WatchedRun]:
    """As `PageSpan.watch`, for a message that is sent by itself."""
    watched = page.watch(Run(message.topic, message.partition, iter([message.content])))
    ((_, _, headers),) = watched.run.messages
    return message._replace(headers=headers), watched
