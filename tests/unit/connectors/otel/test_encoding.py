"""What is sent is what OpenTelemetry's SDK would send."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from connectors.otel.encoding import SpanEncoding
from streams.ports.spans import Event, Span, SpanContext, SpanKind
from tests.unit.connectors.otel.readable import ReadableSpans

texts = st.text(max_size=300)
times = st.integers(0, 2**64 - 1)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(texts, max_size=4),
)
attributes = st.dictionaries(texts, values, max_size=12)
resources = st.dictionaries(st.text(min_size=1, max_size=20), texts, max_size=3)
contexts = st.builds(
    SpanContext, st.binary(min_size=16, max_size=16), st.binary(min_size=8, max_size=8), st.booleans()
)
spans = st.builds(
    Span,
    texts,
    st.sampled_from(SpanKind),
    contexts,
    st.one_of(st.just(b""), st.binary(min_size=8, max_size=8).filter(any)),
    times,
    times,
    attributes,
    st.lists(contexts, max_size=4),
    st.lists(st.builds(Event, texts, times, attributes), max_size=3),
    texts,
)


@given(st.lists(spans, max_size=3), resources, texts)
def test_spans_are_encoded_as_the_sdk_does(found: list[Span], resource: dict[str, str], version: str) -> None:
    encoding = SpanEncoding(resource, version)
    sent = ExportTraceServiceRequest.FromString(encoding.request(map(encoding.span, found)))
    known = ReadableSpans(resource, version)
    if found:
        assert sent == encode_spans([known.readable(span) for span in found])
    else:
        assert not sent.resource_spans[0].scope_spans[0].spans
