"""Identifiers, strings and parameters of SQL."""

from __future__ import annotations

from streams.core.settings import Settings


def quoted(name: str) -> str:
    """``name`` as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def qualified(database: str, table: str) -> str:
    """A table's full name."""
    return f"{quoted(database)}.{quoted(table)}"


def result_table(settings: Settings, table: str) -> str:
    """The full name of a table of the result database."""
    return qualified(settings.result_database, table)


def limited(seconds: int) -> str:
    """The end of a query that may take at most ``seconds`` on the server."""
    return f"\nSETTINGS max_execution_time = {seconds}"


def literal(value: str) -> str:
    """``value`` as an SQL string, quotes included."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
