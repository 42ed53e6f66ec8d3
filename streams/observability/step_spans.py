"""The spans of the agents: one for each message that a step processes, with the calls to its model below it.

The span of a step is a child of the one that published its message, and its own output names it in the
header `traceparent`. What is processed again, for a replay or from a dead letter, begins a trace of its own
with a link to the row's first one.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextvars import ContextVar

from streams.core.codec import REPLAY_JOB, RETRY_OF, traceparent_for
from streams.core.messages import Augmented, Labeled, Row
from streams.core.outcomes import Reject
from streams.core.records import Record
from streams.observability.tracer import Tracer, again_for
from streams.ports.spans import (
    Event,
    ModelCall,
    Span,
    SpanContext,
    SpanKind,
    Value,
    context_in,
    new_span_id,
    new_trace_id,
    trace_again,
)

# Of one step: an outage may go on for days.
_MOST_CALLS = 32
_MOST_EVENTS = 32

_CURRENT: ContextVar[StepSpan | None] = ContextVar("CURRENT_SPAN", default=None)


class StepSpans:
    """Makes the spans of one worker's steps."""

    def __init__(self, tracer: Tracer, group: str, replays: Collection[str]) -> None:
        """``group``: the consumer group. ``replays``: the topics of rows that are processed again."""
        self.tracer = tracer
        self.group = group
        self._replays = replays

    def begin(self, record: Record, step: str, came: bytes | None, message: Row | None) -> StepSpan:
        """The span of ``step`` for ``record``, which is the current one of this task from now on.

        ``came``: the `traceparent` of its ``message``, which is given as far as it could be read.
        """
        again = record.topic in self._replays
        if came is not None and not again and not self.tracer.goes_on_with(came):
            span = StepSpan(self, record, step, message, came)  # most: they cost next to nothing
        else:
            span = self._begin(record, step, came, message, again_for(record.headers) if again else None)
        _CURRENT.set(span)
        return span

    def _begin(
        self, record: Record, step: str, came: bytes | None, message: Row | None, cause: bytes | None
    ) -> StepSpan:
        own = traceparent_for(message) if message is not None else None
        before, first = context_in(came), context_in(own)
        links: tuple[SpanContext, ...] = ()
        if before is not None and cause is not None and (first is None or first.trace_id == before.trace_id):
            trace_id, parent_id = trace_again(before.trace_id, cause), b""
            sampled, links = self.tracer.begins(trace_id), (before,)
            came = SpanContext(trace_id, before.span_id, False).header
        elif before is not None:
            trace_id, parent_id, sampled = before.trace_id, before.span_id, self.tracer.goes_on(before)
            if cause is not None and first is not None:
                links = (first,)
        else:
            trace_id, parent_id = first.trace_id if first is not None else new_trace_id(), b""
            sampled, came = self.tracer.begins(trace_id), own
        context = SpanContext(trace_id, new_span_id(), True) if sampled else None
        return StepSpan(self, record, step, message, came, context, parent_id, links)

    @staticmethod
    def called(call: ModelCall) -> None:
        """A request to a model has ended. Those that belong to no message are not recorded."""
        span = _CURRENT.get()
        if span is not None:
            span.add(call)


class StepSpan:
    """A step's work for one message. Nothing of it is exported before its end: only then is it known
    whether it ends in a dead letter, which is recorded always.
    """

    __slots__ = (
        "_calls",
        "_events",
        "_message",
        "_record",
        "_spans",
        "_step",
        "context",
        "header",
        "links",
        "missed",
        "parent_id",
        "started",
    )

    def __init__(
        self,
        spans: StepSpans,
        record: Record,
        step: str,
        message: Row | None,
        header: bytes | None,
        context: SpanContext | None = None,
        parent_id: bytes | None = None,
        links: tuple[SpanContext, ...] = (),
    ) -> None:
        """``context``: None while it is not to be recorded. Then ``header`` is the `traceparent` of what is
        made of the message. ``parent_id``: None for that in the header.
        """
        self._spans = spans
        self._record = record
        self._step = step
        self._message = message
        self.context = context
        self.header = header if context is None else context.header
        self.parent_id = parent_id
        self.links = links
        self.started = time.time_ns()
        self._calls: list[ModelCall] = []
        self._events: list[Event] = []
        self.missed = 0

    def add(self, call: ModelCall) -> None:
        """A request to the step's model."""
        if len(self._calls) < _MOST_CALLS:
            self._calls.append(call)
        else:
            self.missed += 1

    def happened(self, name: str, **attributes: Value) -> None:
        """Add an event."""
        if len(self._events) < _MOST_EVENTS:
            self._events.append(Event(name, time.time_ns(), attributes))

    def rejected(self) -> None:
        """The message becomes a dead letter."""
        if self.context is not None:
            return
        before = context_in(self.header)
        if before is None and self._message is not None:
            before = context_in(traceparent_for(self._message))
        trace_id = before.trace_id if before is not None else new_trace_id()
        if self.parent_id is None:
            self.parent_id = before.span_id if before is not None else b""
        self.context = SpanContext(trace_id, new_span_id(), True)
        self.header = self.context.header

    def end(self, version: str | None, output: Row | Reject) -> None:
        """The output is published, under that label ``version``."""
        if self.context is None:
            return
        record = self._record
        attributes: dict[str, Value] = {
            "messaging.system": "kafka",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition),
            "messaging.kafka.offset": record.offset,
            "messaging.consumer.group.name": self._spans.group,
            **_about(self._message, version, output),
        }
        for name, header in (("labelstream.replay_job", REPLAY_JOB), ("labelstream.retry_of", RETRY_OF)):
            if (value := record.header(header)) is not None:
                attributes[name] = value.decode("utf-8", "replace")
        if self.missed:
            attributes["labelstream.calls_not_shown"] = self.missed
        record_span = self._spans.tracer.record
        for call in self._calls:
            record_span(_call_span(call, self.context))
        failed = output.reason if isinstance(output, Reject) else ""
        record_span(
            Span(
                self._step,
                SpanKind.CONSUMER,
                self.context,
                self.parent_id or b"",
                self.started,
                time.time_ns(),
                attributes,
                self.links,
                self._events,
                failed,
            )
        )


def _about(message: Row | None, version: str | None, output: Row | Reject) -> dict[str, Value]:
    about: dict[str, Value] = {}
    if message is not None:
        about["labelstream.row_id"] = message.row_id
    if version:
        about["labelstream.label_version"] = version
    if isinstance(output, Labeled):
        about["labelstream.label"] = output.label
        if isinstance(output, Augmented):
            about["labelstream.variants"] = len(output.variants)
            about["labelstream.variants_rejected"] = len(output.rejected)
        else:
            about["labelstream.cached"] = output.cached
            about["labelstream.decided_by"] = output.decided_by
    elif isinstance(output, Reject):
        about["labelstream.attempts"] = output.attempts
    return about


def _call_span(call: ModelCall, parent: SpanContext) -> Span:
    """By the semantic conventions for generative AI, without prompts and answers."""
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",  # by the protocol: nothing else is known of the server
        "gen_ai.request.model": call.model,
        "gen_ai.request.max_tokens": call.max_tokens,
        "server.address": call.host,
        "server.port": call.port,
    }
    if call.temperature is not None:
        attributes["gen_ai.request.temperature"] = call.temperature
    if call.failed:
        attributes["error.type"] = call.failed
    else:
        attributes["gen_ai.response.model"] = call.answered_by or call.model
        attributes["gen_ai.response.finish_reasons"] = [call.finish_reason]
        attributes["gen_ai.usage.input_tokens"] = call.input_tokens
        attributes["gen_ai.usage.output_tokens"] = call.output_tokens
    context = SpanContext(parent.trace_id, new_span_id(), True)
    return Span(
        f"chat {call.model}",
        SpanKind.CLIENT,
        context,
        parent.span_id,
        call.began,
        call.ended,
        attributes,
        failed=call.failed,
    )
