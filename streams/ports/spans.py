"""Spans as values, and what the parts that make them ask of whoever exports them.

A span says what a step did for a row, in which trace. None is made where no traces are exported. The trace id
of a row is made of its identity (`streams/core/context.py`), so that every process knows it without a word
from the others. A span never holds a text, a user, a prompt or an answer.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple, Protocol

_HEADER = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_SAMPLED = 1

Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]


class SpanKind(IntEnum):
    """The kinds of spans, numbered as in OTLP."""

    INTERNAL = 1
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class SpanContext(NamedTuple):
    """A span as others refer to it: 16 and 8 bytes, and whether it is recorded."""

    trace_id: bytes
    span_id: bytes
    sampled: bool

    @property
    def header(self) -> bytes:
        """As a W3C `traceparent`."""
        return b"00-%s-%s-%02x" % (
            self.trace_id.hex().encode(),
            self.span_id.hex().encode(),
            _SAMPLED if self.sampled else 0,
        )


class Event(NamedTuple):
    """What happened within a span, in nanoseconds since 1970."""

    name: str
    at: int
    attributes: Attributes


class Span(NamedTuple):
    """A span that has ended. ``parent_id``: empty for the first one of a trace. ``started``, ``ended``:
    nanoseconds since 1970. ``failed``: a short, countable reason; empty if it did not fail.
    """

    name: str
    kind: SpanKind
    context: SpanContext
    parent_id: bytes
    started: int
    ended: int
    attributes: Attributes
    links: Sequence[SpanContext] = ()
    events: Sequence[Event] = ()
    failed: str = ""


def context_in(traceparent: bytes | None) -> SpanContext | None:
    """The context in a `traceparent` header; None if it is none."""
    found = _HEADER.fullmatch(traceparent or b"")
    if found is None:
        return None
    trace_id, span_id, flags = found.groups()
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    return SpanContext(
        bytes.fromhex(trace_id.decode()), bytes.fromhex(span_id.decode()), bool(int(flags, 16) & _SAMPLED)
    )


def new_trace_id() -> bytes:
    """The id of a trace that is no row's."""
    return random.getrandbits(128).to_bytes(16, "big") or new_trace_id()


def new_span_id() -> bytes:
    """The id of a span."""
    return random.getrandbits(64).to_bytes(8, "big")


def trace_again(trace_id: bytes, cause: bytes) -> bytes:
    """The id of the trace in which a row is processed again for ``cause`` (a replay, a dead letter)."""
    return sha256(trace_id + b"\x00" + cause).digest()[:16]


class SpanExporter(Protocol):
    """Exports spans beside the work. Never waits and never fails. ``counts``: spans `exported`, `dropped` for
    want of room, and `failed`.
    """

    counts: Counter[str]

    @property
    def full(self) -> bool:
        """Whether `take` would drop a span now."""

    def take(self, span: Span) -> None:
        """Export ``span``, or drop and count it if too many wait."""

    def dropped(self, count: int) -> None:
        """So many spans were not made, because there was no room for them."""


class ModelCall(NamedTuple):
    """One request to a model's endpoint at ``host``. ``began``, ``ended``: nanoseconds since 1970.
    ``failed``: the kind of the error; empty if it was answered.
    """

    model: str
    host: str
    port: int
    began: int
    ended: int
    max_tokens: int
    temperature: float | None
    answered_by: str = ""
    finish_reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    failed: str = ""


OnCall = Callable[[ModelCall], None]
