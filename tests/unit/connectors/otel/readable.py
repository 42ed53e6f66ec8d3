"""Spans as OpenTelemetry's SDK has them."""

from __future__ import annotations

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, Status, StatusCode, TraceFlags
from opentelemetry.trace import SpanContext as SdkContext
from opentelemetry.trace import SpanKind as SdkKind

from streams.ports.spans import Attributes, Span, SpanContext, SpanKind

_KINDS = {
    SpanKind.INTERNAL: SdkKind.INTERNAL,
    SpanKind.CLIENT: SdkKind.CLIENT,
    SpanKind.PRODUCER: SdkKind.PRODUCER,
    SpanKind.CONSUMER: SdkKind.CONSUMER,
}
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
_NO_STATUS = Status(StatusCode.UNSET)


class ReadableSpans:
    """Makes the SDK's spans, all of one ``resource``. ``version`` of labelstream."""

    def __init__(self, resource: Attributes, version: str) -> None:
        self._resource = Resource(dict(resource))
        self._scope = InstrumentationScope("labelstream", version)

    def readable(self, span: Span) -> ReadableSpan:
        """``span`` for the SDK's processors and exporters."""
        parent = None
        if span.parent_id:
            # What a consumer's span belongs to was published by another process, mostly.
            before = SpanContext(span.context.trace_id, span.parent_id, True)
            parent = _context(before, remote=span.kind is SpanKind.CONSUMER)
        return ReadableSpan(
            name=span.name,
            context=_context(span.context._replace(sampled=True), remote=False),
            parent=parent,
            resource=self._resource,
            attributes=dict(span.attributes),
            events=[Event(one.name, dict(one.attributes), one.at) for one in span.events],
            links=[Link(_context(one, remote=True)) for one in span.links],
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.failed) if span.failed else _NO_STATUS,
            start_time=span.started,
            end_time=max(span.ended, span.started),
            instrumentation_scope=self._scope,
        )


def _context(context: SpanContext, *, remote: bool) -> SdkContext:
    return SdkContext(
        int.from_bytes(context.trace_id, "big"),
        int.from_bytes(context.span_id, "big"),
        remote,
        _SAMPLED if context.sampled else _NOT_SAMPLED,
    )
