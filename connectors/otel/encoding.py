"""Encodes spans as OTLP: the messages of opentelemetry-proto's `trace_service.proto`, in protobuf.

A span takes 9 us here and 60 in OpenTelemetry's SDK, which makes two objects for each attribute. And it is
bytes from then on, at which the garbage collector does not look. The numbers of the fields are those of the
`.proto` files, and fixed by them for ever; tests compare what is written with what the SDK writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from struct import Struct

from streams.ports.spans import Attributes, Event, Span, SpanContext, SpanKind, Value

# Most are the same in each span: keys with a topic, a model, a label. Others pass through.
_MOST_KNOWN = 2048
_64_BITS = 2**64 - 1
_TIMES = Struct("<BQBQ").pack
_TIME = Struct("<BQ").pack
_DOUBLE = Struct("<Bd").pack
# Field 16, little-endian: it is known whether the parent is in another process, and whether it is.
_FLAGS = {False: b"\x85\x01\x00\x01\x00\x00", True: b"\x85\x01\x00\x03\x00\x00"}
# In a link, field 6: what it names is another process's.
_LINK_END = b"\x35\x00\x03\x00\x00"
_UNSET = b"\x7a\x00"


class SpanEncoding:
    """Encodes the spans of one process, of one ``resource``. ``version``: that of labelstream."""

    def __init__(self, resource: Attributes, version: str) -> None:
        self._resource = _bytes(b"\x0a", _attributes(b"\x0a", resource))
        scope = _bytes(b"\x0a", b"labelstream") + _bytes(b"\x12", _utf8(version))
        self._scope = _bytes(b"\x0a", scope)

    def request(self, spans: Iterable[bytes]) -> bytes:
        """An `ExportTraceServiceRequest` with the encoded ``spans``."""
        spans_of_scope = self._scope + b"".join(spans)
        return _bytes(b"\x0a", self._resource + _bytes(b"\x12", spans_of_scope))

    @staticmethod
    def span(span: Span) -> bytes:
        """``span`` as a part of `request`.

        Raises:
            TypeError: an attribute is none of `Value`.
        """
        name, kind, context, parent_id, started, ended, attributes, links, events, failed = span
        parts = [b"\x0a\x10", context.trace_id, b"\x12\x08", context.span_id]
        if parent_id:
            parts += (b"\x22\x08", parent_id)
        parts.append(_named(name, kind))
        parts.append(_TIMES(0x39, started & _64_BITS, 0x41, max(started, ended) & _64_BITS))
        parts.append(_attributes(b"\x4a", attributes))
        if events:
            parts.append(_events(events))
        if links:
            parts.append(_links(links))
        parts.append(_error(failed) if failed else _UNSET)
        # What a consumer's span belongs to was published by another process, mostly.
        parts.append(_FLAGS[kind is SpanKind.CONSUMER and parent_id != b""])
        return _bytes(b"\x12", b"".join(parts))


@lru_cache(_MOST_KNOWN)
def _named(name: str, kind: SpanKind) -> bytes:
    return _bytes(b"\x2a", _utf8(name)) + b"\x30" + _varint(kind)


@lru_cache(_MOST_KNOWN)
def _error(reason: str) -> bytes:
    return _bytes(b"\x7a", _bytes(b"\x12", _utf8(reason)) + b"\x18\x02")


def _events(events: Sequence[Event]) -> bytes:
    return b"".join(
        _bytes(
            b"\x5a",
            _TIME(0x09, one.at & _64_BITS)
            + _bytes(b"\x12", _utf8(one.name))
            + _attributes(b"\x1a", one.attributes),
        )
        for one in events
    )


def _links(links: Sequence[SpanContext]) -> bytes:
    return b"".join(
        _bytes(b"\x6a", b"\x0a\x10" + one.trace_id + b"\x12\x08" + one.span_id + _LINK_END) for one in links
    )


def _attributes(tag: bytes, attributes: Attributes) -> bytes:
    return b"".join(
        [
            _text(tag, key, value) if type(value) is str else _attribute(tag, key, _any(value))
            for key, value in attributes.items()
        ]
    )


@lru_cache(_MOST_KNOWN)
def _text(tag: bytes, key: str, value: str) -> bytes:
    return _attribute(tag, key, _any(value))


def _attribute(tag: bytes, key: str, value: bytes) -> bytes:
    return _bytes(tag, _key(key) + _bytes(b"\x12", value))


@lru_cache(_MOST_KNOWN)
def _key(key: str) -> bytes:
    return _bytes(b"\x0a", _utf8(key))


def _any(value: Value) -> bytes:
    """As `AnyValue`."""
    if isinstance(value, str):
        return _bytes(b"\x0a", _utf8(value))
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + _varint(value & _64_BITS)
    if isinstance(value, float):
        return _DOUBLE(0x21, value)
    return _bytes(b"\x2a", b"".join(_bytes(b"\x0a", _any(one)) for one in value))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def _bytes(tag: bytes, content: bytes) -> bytes:
    """A field of a length that its first bytes say."""
    length = len(content)
    return tag + (_SHORT[length] if length < 0x80 else _varint(length)) + content


def _varint(number: int) -> bytes:
    if number < 0x80:
        return _SHORT[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_SHORT = [bytes((number,)) for number in range(0x80)]
