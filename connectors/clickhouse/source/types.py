"""Types of the source table's columns."""

from __future__ import annotations

import re

_WRAPPED = re.compile(r"^(LowCardinality|Nullable|SimpleAggregateFunction)\((.*)\)$")
_TEXT = re.compile(r"^(?:String|FixedString\(\d+\))$")
# Values of these types have no text that could serve as an id or a name.
_NOT_NAMES = re.compile(r"^(?:Aggregate|Array|Map|Tuple|Nested|JSON|Object|Variant|Dynamic|Nothing|QBit)")


def bare(declared: str) -> tuple[str, bool]:
    """The type inside LowCardinality, Nullable and SimpleAggregateFunction, and whether it is nullable."""
    nullable = False
    while found := _WRAPPED.match(declared):
        wrapper, declared = found.groups()
        nullable |= wrapper == "Nullable"
        if wrapper == "SimpleAggregateFunction":
            declared = declared.split(", ", 1)[1]
    return declared, nullable


def holds_text(declared: str) -> bool:
    """Whether it is a string type."""
    return _TEXT.match(bare(declared)[0]) is not None


def holds_names(declared: str) -> bool:
    """Whether its values can serve as ids or names."""
    return _NOT_NAMES.match(bare(declared)[0]) is None


def as_text(column: str, declared: str) -> str:
    """SQL for a column's value as text, independent of the session. FixedString loses its padding NULs."""
    inner, _ = bare(declared)
    if inner == "String":
        return column
    return f"toString({column}, 'UTC')" if inner.startswith("DateTime") else f"toString({column})"
