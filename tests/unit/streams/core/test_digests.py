"""A set of digests holds what was added, and little memory."""

from __future__ import annotations

import tracemalloc

from streams.core.digests import DigestSet


def test_it_holds_what_was_added() -> None:
    found = DigestSet()
    assert not found
    assert ("a", 1) not in found
    for number in range(120_000):
        found.add((f"row {number % 110_000}", number % 110_000))
    assert found
    assert all((f"row {number}", number) in found for number in range(110_000))
    assert not any((f"row {number}", number + 1) in found for number in range(110_000))


def test_an_item_takes_some_bytes_only() -> None:
    tracemalloc.start()
    try:
        found = DigestSet()
        for number in range(300_000):
            found.add((f"row {number}", number))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert ("row 299999", 299_999) in found
    assert held < 30 * 300_000
