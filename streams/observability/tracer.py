"""Decides which traces are recorded, by OpenTelemetry's samplers, and passes spans on to be exported."""

from __future__ import annotations

from streams.ports.spans import Span, SpanContext, SpanExporter

_ALL = 2**64
# What a batch's span refers to; collectors keep no more of one span.
MOST_LINKS = 128


class Tracer:
    """The tracer of one process."""

    def __init__(
        self, exporter: SpanExporter, sampler: str = "parentbased_always_on", share: float = 1.0
    ) -> None:
        """``sampler`` as in OTEL_TRACES_SAMPLER; ``share`` of the traces for those by ratio."""
        self.exporter = exporter
        self._by_parent = sampler.startswith("parentbased_")
        kind = sampler.removeprefix("parentbased_")
        bound = {"always_on": _ALL, "always_off": 0}.get(kind, round(share * _ALL))
        # Compared with the last 64 bits of a trace id in hexadecimal: as OpenTelemetry's TraceIdRatioBased
        # does, so that every process decides alike.
        self._bound = b"g" if bound >= _ALL else b"%016x" % bound

    def begins(self, trace_id: bytes) -> bool:
        """Whether a trace that begins here is recorded."""
        return trace_id[8:].hex().encode() < self._bound

    def begins_with(self, traceparent: bytes) -> bool:
        """The same for a well-formed header of the trace."""
        return traceparent[19:35] < self._bound

    def goes_on(self, came: SpanContext) -> bool:
        """Whether a trace that comes from elsewhere is recorded here."""
        return came.sampled if self._by_parent else self.begins(came.trace_id)

    def record(self, span: Span) -> None:
        """Export ``span``."""
        self.exporter.take(span)
