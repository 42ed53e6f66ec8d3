"""The spans of who publishes rows: in the row's trace, under the id that its message names."""

from __future__ import annotations

import pytest

from streams.core.codec import REPLAY_JOB, TO, headers_of, traceparent_for
from streams.core.context import TRACEPARENT
from streams.core.records import Outgoing, Run
from streams.observability.publish_spans import PageSpan, PublishSpans, watch_one
from streams.observability.tracer import Tracer
from streams.ports.spans import SpanContext, SpanKind, context_in
from tests.unit.streams.delivery.fakes import row
from tests.unit.streams.observability.span_fakes import KeptSpans


def page_of(
    sampler: str = "always_on", share: float = 1.0, again: bool = False
) -> tuple[KeptSpans, PageSpan]:
    kept = KeptSpans()
    tracer = Tracer(kept, sampler, share)
    return kept, PublishSpans(tracer, "poll", "esk.logs", "dead", again=again).page()


def message(row_id: str, *headers: tuple[str, bytes], topic: str = "rows") -> Outgoing:
    return Outgoing(topic, 3, row_id.encode(), b"{}", [*headers_of(row(row_id)), *headers])


def own(row_id: str) -> SpanContext:
    found = context_in(traceparent_for(row(row_id)))
    assert found is not None
    return found


def test_each_row_has_its_trace_and_is_linked_with_its_page() -> None:
    kept, page = page_of()
    run = Run("rows", 3, iter([message(str(n)).content for n in range(3)]))
    watched = page.watch(run)
    sent = list(watched.run.messages)
    page.handed_over(3)
    watched.confirmed([(10, 2), (20, 1)])
    assert [dict(headers)[TRACEPARENT] for _, _, headers in sent] == [
        own(str(n))._replace(sampled=True).header for n in range(3)
    ]
    (batch,) = kept.named("poll page")
    assert [link.trace_id for link in batch.links] == [own(str(n)).trace_id for n in range(3)]
    assert batch.attributes["db.response.returned_rows"] == 3
    roots, publishes = kept.named("poll"), kept.named("publish")
    for number, (root, publish) in enumerate(zip(roots, publishes, strict=True)):
        assert publish.context[:2] == own(str(number))[:2]
        assert (root.parent_id, publish.parent_id) == (b"", root.context.span_id)
        assert root.context.trace_id == publish.context.trace_id
        assert list(root.links) == [batch.context]
        assert publish.kind is SpanKind.PRODUCER
        assert root.started <= root.ended
        assert publish.started <= publish.ended
    assert [one.attributes["messaging.kafka.offset"] for one in publishes] == [10, 11, 20]
    assert "text 0" not in repr(kept.spans)


def test_rows_that_are_not_sampled_go_as_they_came() -> None:
    kept, page = page_of("parentbased_traceidratio", 0.0)
    messages = [message(str(n)).content for n in range(3)]
    watched = page.watch(Run("rows", 3, iter(messages)))
    assert list(watched.run.messages) == messages
    watched.confirmed([(0, 3)])
    page.handed_over(3)
    assert kept.spans == []


def test_the_share_of_a_ratio_is_kept_by_poller_and_agents_alike() -> None:
    tracer = Tracer(KeptSpans(), "traceidratio", 0.1)
    traces = [traceparent_for(row(str(n))) for n in range(2000)]
    chosen = [tracer.begins_with(trace) for trace in traces]
    assert 140 < sum(chosen) < 260
    contexts = [context for trace in traces if (context := context_in(trace)) is not None]
    assert (
        [tracer.begins(one.trace_id) for one in contexts] == chosen == [tracer.goes_on(c) for c in contexts]
    )
    assert [tracer.goes_on_with(trace) for trace in traces] == chosen
    by_parent = Tracer(KeptSpans(), "parentbased_always_on")
    assert not any(map(by_parent.goes_on_with, [*traces, None, b"", b"00-1-2-01"]))
    assert all(by_parent.goes_on_with(one._replace(sampled=True).header) for one in contexts)


def test_a_dead_letter_is_recorded_though_its_row_is_not_sampled() -> None:
    kept, page = page_of("always_off")
    letter, watched = watch_one(page, message("1", ("reason", b"too-large"), topic="dead"))
    watched.confirmed([(7, 1)])
    assert dict(letter.headers)[TRACEPARENT] == own("1")._replace(sampled=True).header
    assert kept.named("publish")[0].failed == "too-large"


def test_a_replay_has_a_trace_of_its_own_with_a_link_to_the_first() -> None:
    kept, page = page_of(again=True)
    sent, watched = watch_one(page, message("1", (REPLAY_JOB, b"j1"), (TO, b"labeled"), topic="replay"))
    watched.confirmed([(0, 1)])
    (root,), (publish,) = kept.named("poll"), kept.named("publish")
    assert publish.context.trace_id != own("1").trace_id
    assert dict(sent.headers)[TRACEPARENT] == publish.context.header
    assert own("1") in root.links
    assert publish.attributes["labelstream.replay_job"] == "j1"
    # An upload is no replay.
    first, _ = watch_one(page, message("1", (REPLAY_JOB, b"j1"), topic="replay"))
    assert dict(first.headers)[TRACEPARENT] == own("1")._replace(sampled=True).header


def test_a_flood_is_counted_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.observability.publish_spans._MOST_ROWS", 2)
    kept, page = page_of()
    watched = page.watch(Run("rows", 3, iter([message(str(n)).content for n in range(5)])))
    list(watched.run.messages)
    watched.confirmed([(0, 5)])
    assert len(kept.named("publish")) == 2
    assert kept.counts["dropped"] == 6
