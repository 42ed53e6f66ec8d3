"""The figures of a demo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from connectors.clickhouse.queries.demo_table import Stored


@dataclass
class Figures:
    """The state of the demo at one time. Topics and calls are counted since its start."""

    rows: int = 0
    stored: Stored = field(default_factory=lambda: Stored(0, 0, 0))
    topics: dict[str, int] = field(default_factory=dict)
    lags: dict[str, int] = field(default_factory=dict)
    labels: list[tuple[str, int]] = field(default_factory=list)
    examples: list[tuple[str, str, float | None, list[str]]] = field(default_factory=list)
    llm_calls: int | None = None
    seconds: float = 0.0

    @property
    def progress(self) -> tuple[Any, ...]:
        """Changes with any progress."""
        return (self.rows, self.stored, tuple(self.topics.values()))
