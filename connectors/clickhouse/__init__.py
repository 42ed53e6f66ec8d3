"""ClickHouse: the source, the sink, and the connector as a library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectors.clickhouse.source.connector import ClickHouseConfig, ClickHouseConnector

__all__ = ["ClickHouseConfig", "ClickHouseConnector"]


def __getattr__(name: str) -> Any:
    # Loaded lazily: the roles need neither of them.
    if name in __all__:
        from streams.core.errors import optional_packages

        with optional_packages(name):
            from connectors.clickhouse.source import connector

        return getattr(connector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
