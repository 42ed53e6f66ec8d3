"""Identifiers, strings, parameters and tuples of SQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from streams.core.settings import Settings

T = TypeVar("T")

# A bound value is a field of a form, which a server takes up to 128 KiB (http_max_field_value_size).
MOST_BOUND_BYTES = 60_000
# At least so many for each item: another array that is bound beside it, of numbers, is no longer than its.
_LEAST_ITEM_BYTES = 24
_ESCAPED = frozenset("\\'`\t\n")


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def qualified(database: str, table: str) -> str:
    """A table's full name."""
    return f"{quoted(database)}.{quoted(table)}"


def result_table(settings: Settings, table: str) -> str:
    """The full name of a table of the result database."""
    return qualified(settings.result_database, table)


def time_is(comparison: str, parameter: str, column: str = "created_at") -> str:
    """The condition that ``column`` compares so with a bound number of microseconds since 1970."""
    return f"{column} {comparison} fromUnixTimestamp64Micro({{{parameter}:Int64}}, 'UTC')"


def tuple_of(found: Any) -> tuple[Any, ...]:
    """A tuple in an answer: it comes by names where the server gave it names."""
    return tuple(found.values() if isinstance(found, dict) else found)


def probability(found: Any) -> float | None:
    """A stored probability; None for what is none: other tools may have written it."""
    return float(found) if found is not None and 0.0 <= found <= 1.0 else None


def bound_batches(items: Sequence[T], text_of: Callable[[T], str]) -> Iterator[list[T]]:
    """``items`` in lists, in order. The texts of each list fit into one bound `Array(String)`.

    An item whose text fits into no parameter is left out: no query can ask for it.
    """
    batch: list[T] = []
    size = 0
    for item in items:
        needed = max(_bound_bytes(text_of(item)), _LEAST_ITEM_BYTES)
        if needed > MOST_BOUND_BYTES:
            continue
        if size + needed > MOST_BOUND_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += needed
    if batch:
        yield batch


def _bound_bytes(text: str) -> int:
    """The size of ``text`` in a bound array: quotes and a separator, and a backslash before some letters."""
    return len(text.encode("utf-8", "surrogatepass")) + sum(map(text.count, _ESCAPED)) + 4


def literal(value: str) -> str:
    """``value`` as an SQL string, quotes included."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
