"""Spans as OTLP's protobuf messages. The only module that imports OpenTelemetry's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2

from streams.ports.spans import Attributes, Span, SpanKind, Value

_SCOPE = "labelstream"
# Flags of spans and links: sampled; that it is known whether the other one is of another process; that it is.
_SAMPLED, _KNOWN, _REMOTE = 0x001, 0x100, 0x200


def encoded(resource: Attributes, version: str, spans: Iterable[Span]) -> bytes:
    """A request to export ``spans``, all of one ``resource``. ``version`` of labelstream."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    _fill(of_resource.resource.attributes, resource)
    of_scope = of_resource.scope_spans.add()
    of_scope.scope.name, of_scope.scope.version = _SCOPE, version
    for span in spans:
        _add(of_scope.spans, span)
    return bytes(request.SerializeToString())


def rejected_in(body: bytes) -> tuple[int, str]:
    """How many spans the collector refused, and why, by its answer."""
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # protobuf's own error, for an answer that is none: it was taken all the same
        return 0, ""
    return int(partial.rejected_spans), str(partial.error_message)


def _add(found: Any, span: Span) -> None:
    trace_id, span_id, _ = span.context
    message = found.add(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=span.parent_id,
        flags=_SAMPLED | _KNOWN | (_REMOTE if span.kind is SpanKind.CONSUMER and span.parent_id else 0),
        name=span.name,
        kind=int(span.kind),
        start_time_unix_nano=span.started,
        end_time_unix_nano=max(span.ended, span.started),
    )
    _fill(message.attributes, span.attributes)
    for link in span.links:
        flags = _SAMPLED if link.sampled else 0
        message.links.add(trace_id=link.trace_id, span_id=link.span_id, flags=flags)
    for event in span.events:
        _fill(message.events.add(name=event.name, time_unix_nano=event.at).attributes, event.attributes)
    if span.failed:
        message.status.code = trace_pb2.Status.STATUS_CODE_ERROR
        message.status.message = span.failed


def _fill(found: Any, attributes: Attributes) -> None:
    for name, value in attributes.items():
        one = found.add()
        one.key = name
        _set(one.value, value)


def _set(target: AnyValue, value: Value) -> None:
    # A bool is an int as well.
    if isinstance(value, str):
        target.string_value = value
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int):
        target.int_value = value
    elif isinstance(value, float):
        target.double_value = value
    else:
        _set_all(target, value)


def _set_all(target: AnyValue, values: Sequence[str]) -> None:
    for one in values:
        target.array_value.values.add().string_value = one
