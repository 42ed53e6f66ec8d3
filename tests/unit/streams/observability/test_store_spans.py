"""The spans of the sink: each row's in its trace, linked with the insert's."""

from __future__ import annotations

from streams.core.codec import LABEL_VERSION
from streams.core.context import TRACEPARENT
from streams.core.records import Record
from streams.observability.store_spans import StoreSpans
from streams.observability.tracer import Tracer
from streams.ports.spans import SpanContext, SpanKind, context_in
from tests.unit.streams.observability.span_fakes import KeptSpans


def record(number: int, sampled: bool) -> Record:
    trace = SpanContext(bytes([number + 1]) * 16, bytes([number + 1]) * 8, sampled)
    headers = (TRACEPARENT, trace.header), (LABEL_VERSION, b"v1")
    return Record("labeled", 2, number, 0, b"r%d" % number, b"{}", headers)


def test_sampled_rows_are_recorded_and_linked_with_their_insert() -> None:
    kept = KeptSpans()
    StoreSpans(Tracer(kept), "esk-sink", "esk").stored(
        "logs_labeled", [record(0, True), record(1, False), record(2, True)], 1
    )
    (insert,), rows = kept.named("INSERT logs_labeled"), kept.named("store")
    assert [one.context.trace_id for one in rows] == [b"\x01" * 16, b"\x03" * 16]
    assert [one.parent_id for one in rows] == [b"\x01" * 8, b"\x03" * 8]
    assert all(list(one.links) == [insert.context] for one in rows)
    assert list(insert.links) == [one.context for one in rows]
    assert (insert.kind, insert.attributes["db.operation.batch.size"]) == (SpanKind.CLIENT, 3)
    assert rows[0].attributes["labelstream.row_id"] == "r0"
    assert rows[0].attributes["labelstream.label_version"] == "v1"


def test_nothing_is_recorded_where_nothing_is_sampled_but_dead_letters() -> None:
    kept = KeptSpans()
    spans = StoreSpans(Tracer(kept), "esk-sink", "esk")
    spans.stored("logs_labeled", [record(0, False)], 1)
    assert kept.spans == []
    spans.stored("dead_letters", [record(0, False)], 1, always=True)
    assert len(kept.named("store")) == 1
    header = spans.refused("logs_labeled", record(1, False), "refused-by-table", 1)
    refused = kept.spans[-1]
    assert (refused.failed, refused.parent_id) == ("refused-by-table", b"\x02" * 8)
    assert context_in(header) == refused.context


def test_what_finds_no_room_is_counted() -> None:
    kept = KeptSpans()
    kept.full = True
    StoreSpans(Tracer(kept), "esk-sink", "esk").stored("logs_labeled", [record(0, True)], 1)
    assert kept.counts["dropped"] == 1
