"""Identifiers, strings and parameters of SQL."""

from __future__ import annotations

from typing import Any


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(value: str) -> str:
    """``value`` as a string of SQL, quotes included."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def given(**parameters: Any) -> dict[str, Any]:
    """Those of ``parameters`` that are not None."""
    return {name: value for name, value in parameters.items() if value is not None}
