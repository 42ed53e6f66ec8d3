"""Contexts of spans, from and to `traceparent`."""

from __future__ import annotations

from streams.ports.spans import SpanContext, context_in

PARENT = SpanContext(b"\xab" * 16, b"\xcd" * 8, True)


def test_only_a_whole_header_is_a_context() -> None:
    assert context_in(PARENT.header) == PARENT
    assert context_in(PARENT._replace(sampled=False).header) == PARENT._replace(sampled=False)
    for none in (
        None,
        b"",
        b"00-12-34-01",
        b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01",
        PARENT.header.upper(),
    ):
        assert context_in(none) is None
