"""What the page shows of a running pipeline, as plain values, and the ports that its routes take."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from streams.ports.audit import Audit
from streams.review.leases import ReviewDesk

HISTORY_SECONDS = 300
_RATE_SECONDS = 5.0


@dataclass(frozen=True)
class LabelPicture:
    """Current labels of one day and of the seven days before it.

    ``until``: the day's end, microseconds since 1970. ``labels``: name, rows of the day, rows of the week.
    ``confidence``: rows of the day in twenty equal steps from 0 to 1.
    """

    until: int
    labels: Sequence[tuple[str, int, int]]
    confidence: Sequence[int]


class Rates:
    """How fast counters grow: each over the last five seconds. One that shrinks begins anew."""

    def __init__(self, seconds: float = _RATE_SECONDS) -> None:
        self._seconds = seconds
        self._seen: dict[str, deque[tuple[float, float]]] = {}

    def saw(self, name: str, at: float, value: float) -> float:
        """Its rate a second with ``value`` at ``at`` (seconds); 0 at first."""
        seen = self._seen.setdefault(name, deque())
        if seen and value < seen[-1][1]:
            seen.clear()
        seen.append((at, value))
        while len(seen) > 2 and seen[1][0] <= at - self._seconds:
            seen.popleft()
        past = at - seen[0][0]
        return (value - seen[0][1]) / past if past > 0 else 0.0


@dataclass
class History:
    """One number a second for the charts, the newest five minutes; as lists, oldest first."""

    names: Sequence[str]
    points: deque[tuple[float, ...]] = field(default_factory=lambda: deque(maxlen=HISTORY_SECONDS))

    def add(self, at: float, values: Mapping[str, float]) -> None:
        """A point at ``at`` (seconds since 1970)."""
        self.points.append((round(at, 1), *(round(values.get(name, 0.0), 2) for name in self.names)))

    def columns(self) -> list[list[float]]:
        """Times, and the values of each name."""
        empty: list[list[float]] = [[] for _ in range(len(self.names) + 1)]
        return [list(column) for column in zip(*self.points, strict=True)] or empty


class Overview(Protocol):
    """The pipeline as it is now, looked at once a second for all who watch."""

    def watch(self) -> AsyncGenerator[dict[str, Any]]:
        """The whole picture with the charts' past, then every second what is new. Ends with the service."""

    async def now(self) -> dict[str, Any]:
        """The whole picture once."""


class Operations(Protocol):
    """What the page may do, by the same code as the command line.

    Raises UnavailableError, ConfigurationError, and RefusedError with a text for who asks.
    """

    async def letters(
        self, *, step: str | None, reason: str | None, only_open: bool, limit: int
    ) -> dict[str, Any]:
        """The newest dead letters, and counts by step and reason."""

    async def retry(self, letter: str) -> dict[str, Any]:
        """Try one letter again, by its `id`."""

    async def replays(self) -> list[dict[str, Any]]:
        """Jobs, newest first."""

    async def steer(self, job: str, wish: str) -> dict[str, Any]:
        """`pause`, `resume` or `cancel` a replay."""

    async def versions(self) -> list[dict[str, Any]]:
        """Label versions."""

    async def diff(self, a: str, b: str) -> dict[str, Any]:
        """One version against another."""

    async def promote(self, version: str) -> dict[str, Any]:
        """Make it the current one."""

    async def retire(self, version: str) -> dict[str, Any]:
        """Show it no more."""


@dataclass(frozen=True, kw_only=True)
class PagePorts:
    """All that the page's routes take."""

    overview: Overview
    operations: Operations
    review: ReviewDesk
    audit: Audit


def bounded(text: str, most: int) -> str:
    """At most ``most`` characters of ``text``."""
    return text if len(text) <= most else text[: most - 1] + "…"
