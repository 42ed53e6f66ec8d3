"""Decides which traces are recorded, by OpenTelemetry's samplers, and passes spans on to be exported."""

from __future__ import annotations

from collections.abc import Sequence

from streams.core.codec import REPLAY_JOB, RETRY_OF, TO
from streams.ports.spans import Span, SpanContext, SpanExporter

_ALL = 2**64
_ODD = b"13579bdf"  # the last digit of a header's flags, if it is sampled
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

    def goes_on_with(self, traceparent: bytes | None) -> bool:
        """The same for its header, whatever that holds."""
        if traceparent is None or len(traceparent) < 55:
            return False
        return traceparent[54:55] in _ODD if self._by_parent else self.begins_with(traceparent)

    def record(self, span: Span) -> None:
        """Export ``span``."""
        self.exporter.take(span)


def again_for(headers: Sequence[tuple[str, bytes]]) -> bytes | None:
    """Why a message of the replay topic processes a row again; None for one that comes for the first time
    (an upload, a backfill).
    """
    known = dict(headers)
    if (retry := known.get(RETRY_OF)) is not None:
        return RETRY_OF.encode() + b":" + retry
    if TO in known:
        return REPLAY_JOB.encode() + b":" + known.get(REPLAY_JOB, b"")
    return None
