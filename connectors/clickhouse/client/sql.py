"""Identifiers, strings and parameters of SQL."""

from __future__ import annotations


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value: str) -> str:
    """``value`` as a string of SQL, quotes included."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
