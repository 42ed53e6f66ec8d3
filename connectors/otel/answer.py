"""Reads what a collector says of spans that it did not take of a request that it took.

That is `ExportTraceServiceResponse` of opentelemetry-proto's `trace_service.proto`, in protobuf: its field 1
is `partial_success`, of which field 1 is a number of spans, and field 2 the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _64_BITS, _LENGTH, _32_BITS = 0, 1, 2, 5


def rejected_spans(body: bytes) -> tuple[int, str]:
    """How many spans were not taken, and why: 0 and "" if the answer does not say, or is none of these, as
    that of a proxy.
    """
    rejected, reason = 0, ""
    try:
        for field, partial in _fields(body):
            if field != 1 or not isinstance(partial, bytes):
                continue
            for number, value in _fields(partial):
                if number == 1 and isinstance(value, int):
                    rejected = value
                elif number == 2 and isinstance(value, bytes):
                    reason = value.decode("utf-8", "replace")
    except (IndexError, ValueError):
        return 0, ""
    return (rejected, reason) if 0 < rejected < 2**63 else (0, "")


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field. Raises IndexError, ValueError for what is no message."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        value: int | bytes
        kind = tag & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
        elif kind in (_64_BITS, _LENGTH, _32_BITS):
            length = 8 if kind == _64_BITS else 4
            if kind == _LENGTH:
                length, at = _varint(message, at)
            value, at = message[at : at + length], at + length
            if at > len(message):
                raise ValueError
        else:
            raise ValueError
        yield tag >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """The number that begins at ``at``, and where the next begins."""
    number = shift = 0
    while shift < 70:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
    raise ValueError
