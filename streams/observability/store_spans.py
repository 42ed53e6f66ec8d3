"""The spans of the sink: one for each insert, in a trace of its own, and one for each sampled row of it, in
the row's trace and with a link to the insert's.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from streams.core.codec import LABEL_VERSION
from streams.core.context import TRACEPARENT
from streams.core.records import Record
from streams.observability.tracer import MOST_LINKS, Tracer
from streams.ports.spans import Span, SpanContext, SpanKind, Value, context_in, new_span_id, new_trace_id

STEP = "store"


class StoreSpans:
    """Makes the spans of one sink."""

    def __init__(self, tracer: Tracer, group: str, database: str) -> None:
        """``group``: the consumer group; ``database``: that of the tables."""
        self._tracer = tracer
        self._group = group
        self._database = database

    def stored(self, table: str, records: Sequence[Record], began: int, *, always: bool = False) -> None:
        """``records`` were inserted into ``table``; the insert ``began`` at so many nanoseconds since 1970.
        ``always``: whether they were sampled or not.
        """
        exporter, goes_on = self._tracer.exporter, self._tracer.goes_on_with
        chosen = [one for one in records if always or goes_on(one.header(TRACEPARENT))]
        if not chosen:
            return
        now = time.time_ns()
        insert = SpanContext(new_trace_id(), new_span_id(), True)
        links: list[SpanContext] = []
        for at, record in enumerate(chosen):
            if exporter.full:
                exporter.dropped(len(chosen) - at)
                break
            span = self._row(table, record, began, now, insert)
            if len(links) < MOST_LINKS:
                links.append(span.context)
            self._tracer.record(span)
        about: dict[str, Value] = {
            "db.system.name": "clickhouse",
            "db.namespace": self._database,
            "db.collection.name": table,
            "db.operation.name": "INSERT",
            "db.operation.batch.size": len(records),
        }
        self._tracer.record(Span(f"INSERT {table}", SpanKind.CLIENT, insert, b"", began, now, about, links))

    def refused(self, table: str, record: Record, reason: str, began: int) -> bytes:
        """``record`` becomes a dead letter: the `traceparent` for it. Always recorded."""
        span = self._row(table, record, began, time.time_ns(), None, reason)
        self._tracer.record(span)
        return span.context.header

    def _row(
        self, table: str, record: Record, began: int, now: int, insert: SpanContext | None, failed: str = ""
    ) -> Span:
        came = context_in(record.header(TRACEPARENT))
        context = SpanContext(came.trace_id if came is not None else new_trace_id(), new_span_id(), True)
        about: dict[str, Value] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._group,
            "db.collection.name": table,
            "labelstream.row_id": (record.key or b"").decode("utf-8", "replace"),
        }
        if (version := record.header(LABEL_VERSION)) is not None:
            about["labelstream.label_version"] = version.decode("utf-8", "replace")
        return Span(
            STEP,
            SpanKind.CONSUMER,
            context,
            came.span_id if came is not None else b"",
            began,
            now,
            about,
            [insert] if insert is not None else (),
            failed=failed,
        )
