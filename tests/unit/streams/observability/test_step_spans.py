"""The spans of the agents: joined with those before and after, and never with anything of a text."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from streams.core.codec import LABEL_VERSION, REPLAY_JOB, RETRY_OF, TO, traceparent_for
from streams.core.context import TRACEPARENT
from streams.core.outcomes import Reject, Retry
from streams.core.records import Commit, Outgoing, Record
from streams.observability.step_spans import StepSpans
from streams.observability.tracer import Tracer
from streams.ports.spans import ModelCall, Span, SpanContext, SpanKind, context_in
from tests.unit.streams.delivery.fakes import REPLAY, ROWS, Broker, label, make, record, row, settle
from tests.unit.streams.observability.span_fakes import KeptSpans


def own(row_id: str, sampled: bool = True) -> SpanContext:
    found = context_in(traceparent_for(row(row_id)))
    assert found is not None
    return found._replace(sampled=sampled)


def message(
    row_id: str, *headers: tuple[str, bytes], topic: str = "rows", trace: bytes | None = None
) -> Record:
    found = record(0, row_id, topic)
    trace = own(row_id).header if trace is None else trace
    return found._replace(headers=((TRACEPARENT, trace), *headers))


CALL = ModelCall("m", "llm", 8000, 1, 2, 60, 0.0, "m", "stop", 100, 5)


async def calling(received: Any) -> Any:
    StepSpans.called(CALL)
    return await label(received)


async def run(
    received: Record,
    step: Callable[[Any], Awaitable[Any]] = calling,
    sampler: str = "parentbased_always_on",
    share: float = 1.0,
) -> tuple[list[Span], Outgoing]:
    """The spans of one message, and what was made of it."""
    exporter, broker = KeptSpans(), Broker()
    spans = StepSpans(Tracer(exporter, sampler, share), "esk-agents", {"replay"})
    delivery = make(broker, step, spans=spans)
    await delivery.assigned({ROWS: Commit(-1), REPLAY: Commit(-1)}, 1)
    delivery.offer(received, 1)
    await settle(delivery)
    (made,) = [one for log in broker.logs.values() for one in log]
    return exporter.spans, made


async def test_a_step_and_its_call_are_joined_with_what_came_and_what_goes() -> None:
    spans, made = await run(message("1"))
    call, step = spans
    assert (step.name, step.kind, step.failed) == ("label", SpanKind.CONSUMER, "")
    assert step.context.trace_id == call.context.trace_id == own("1").trace_id
    assert step.parent_id == own("1").span_id
    assert call.parent_id == step.context.span_id
    assert dict(made.headers)[TRACEPARENT] == step.context.header
    assert (call.name, call.kind, call.started, call.ended) == ("chat m", SpanKind.CLIENT, 1, 2)
    assert call.attributes["gen_ai.operation.name"] == "chat"
    assert call.attributes["gen_ai.usage.input_tokens"] == 100
    assert call.attributes["server.address"] == "llm"
    assert step.attributes["labelstream.row_id"] == "1"
    assert step.attributes["labelstream.label"] == "other"
    assert step.attributes["labelstream.decided_by"] == "llm"
    assert step.attributes["messaging.destination.name"] == "rows"
    assert [event.name for event in step.events] == ["publish"]
    assert "text 1" not in repr(spans)


async def test_what_is_not_sampled_leaves_no_span_and_no_byte() -> None:
    trace = own("1", sampled=False).header
    spans, made = await run(message("1", trace=trace))
    assert spans == []
    assert dict(made.headers)[TRACEPARENT] == trace == traceparent_for(row("1"))
    # Without a parent's word the sampler decides, by the trace id and so alike everywhere.
    for share, count in ((0.0, 0), (1.0, 2)):
        found, _ = await run(message("1", trace=trace), sampler="traceidratio", share=share)
        assert len(found) == count


async def test_a_dead_letter_is_always_recorded_with_what_led_to_it() -> None:
    async def step(received: Any) -> Any:
        StepSpans.called(CALL._replace(failed="AnswerError"))
        return Reject("invalid-answer", f"the model answered: {received.text}", 3)

    spans, letter = await run(message("1", trace=own("1", sampled=False).header), step)
    call, failed = spans
    assert (failed.failed, failed.attributes["labelstream.attempts"]) == ("invalid-answer", 3)
    assert (call.failed, call.parent_id) == ("AnswerError", failed.context.span_id)
    assert dict(letter.headers)[TRACEPARENT] == failed.context.header
    assert (failed.context.trace_id, failed.parent_id) == own("1")[:2]
    assert "text 1" not in repr(spans)


async def test_retries_are_events() -> None:
    tries = iter([Retry(0, "text 1 is odd", suspect=True), Retry(0, "busy"), None])

    async def step(received: Any) -> Any:
        return next(tries) or await label(received)

    (span,), _ = await run(message("1"), step)
    assert [event.name for event in span.events] == ["retry", "retry", "publish"]
    assert "text 1" not in repr(span)


async def test_a_replay_and_a_retry_begin_traces_that_link_to_the_first() -> None:
    replay = (REPLAY_JOB, b"j1"), (LABEL_VERSION, b"v1"), (TO, b"labeled")
    traces = set()
    for headers in (replay, ((RETRY_OF, b"0/7"),), ((RETRY_OF, b"0/8"),)):
        spans, made = await run(message("1", *headers, topic="replay"))
        step = spans[-1]
        assert (step.parent_id, step.links) == (b"", (own("1"),))
        assert dict(made.headers)[TRACEPARENT] == step.context.header
        # The same again after a crash, whichever worker does it.
        again, _ = await run(message("1", *headers, topic="replay"))
        assert again[-1].context.trace_id == step.context.trace_id
        traces.add(step.context.trace_id)
    assert len(traces | {own("1").trace_id}) == 4
    # An upload comes by the same topic, for the first time.
    spans, _ = await run(message("1", (REPLAY_JOB, b"j2"), topic="replay"))
    assert (spans[-1].context.trace_id, spans[-1].links) == (own("1").trace_id, ())


async def test_a_trace_that_its_publisher_began_again_goes_on_and_keeps_the_link() -> None:
    begun = SpanContext(b"n" * 16, b"s" * 8, True)
    spans, _ = await run(message("1", (RETRY_OF, b"0/7"), topic="replay", trace=begun.header))
    assert (spans[-1].context.trace_id, spans[-1].parent_id) == (begun.trace_id, begun.span_id)
    assert spans[-1].links[0].trace_id == own("1").trace_id


async def test_what_cannot_be_read_has_a_trace_of_its_own() -> None:
    spans, letter = await run(Record(*ROWS, 0, 0, b"1", b"{", ()))
    assert spans[-1].failed == "undecodable"
    assert dict(letter.headers)[TRACEPARENT] == spans[-1].context.header
