"""What the page shows of a running pipeline, as plain values, and the ports of its routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from streams.ports.audit import Audit
from streams.ports.review import ReviewDesk


@dataclass(frozen=True)
class LabelPicture:
    """Current labels of one day and of the seven days before it.

    ``until``: the day's end, microseconds since 1970. ``labels``: name, rows of the day, rows of the week.
    ``confidence``: rows of the day in twenty equal steps from 0 to 1. ``decided``: rows of the day by who
    decided, `llm`, `proxy` or `human`, or `cache` for the model's answer to an equal text.
    """

    until: int
    labels: Sequence[tuple[str, int, int]]
    confidence: Sequence[int]
    decided: Mapping[str, int]


class Overview(Protocol):
    """The present state of the pipeline, read once a second for all viewers."""

    def watch(self) -> AsyncGenerator[dict[str, Any]]:
        """The whole state with the history of the charts, then every second the changes. Ends with the
        service.
        """

    async def now(self) -> dict[str, Any]:
        """The whole state once."""


class Operations(Protocol):
    """The page's actions, with the same code as the command line.

    Raises UnavailableError, ConfigurationError, and RefusedError with a text for the client.
    """

    async def letters(
        self, *, step: str | None, reason: str | None, only_open: bool, limit: int
    ) -> dict[str, Any]:
        """The newest dead letters, and counts by step and reason."""

    async def retry(self, letter: str) -> dict[str, Any]:
        """Retry one dead letter, by its `id`."""

    async def replays(self) -> list[dict[str, Any]]:
        """Jobs, newest first."""

    async def steer(self, job: str, wish: str) -> dict[str, Any]:
        """`pause`, `resume` or `cancel` a replay."""

    async def versions(self) -> list[dict[str, Any]]:
        """Label versions."""

    async def diff(self, a: str, b: str) -> dict[str, Any]:
        """One version compared with another."""

    async def promote(self, version: str, *, force: bool = False) -> dict[str, Any]:
        """Make it the current one. Raises GateError if the gold rows speak against it, unless ``force``."""

    async def retire(self, version: str) -> dict[str, Any]:
        """No longer show it."""


class Quality(Protocol):
    """How right the labels are, by the rows that people judged. ``version``: None: the current one.

    Raises UnavailableError, ConfigurationError; RefusedError if there is no such version.
    """

    async def quality(
        self, version: str | None, by: Literal["week", "domain", "length"] | None, accuracy: float
    ) -> dict[str, Any]:
        """What `labelstream evaluate --json` prints, and `versions` with their accuracies and verdicts.
        ``accuracy``: for which the least confidence is looked for.
        """

    def drift(self) -> dict[str, Any]:
        """What differs from the reference, as `labelstream status --json` prints it under `drift`."""

    async def drift_rows(self, series: str) -> Sequence[dict[str, Any]]:
        """Rows that show why ``series`` is in alarm. RefusedError if it is not."""

    async def rows(self, version: str | None, right: str, given: str) -> Sequence[dict[str, Any]]:
        """The newest rows whose right label is ``right`` and whose label of the version is ``given``."""

    async def discover(self, *, anew: bool) -> dict[str, Any]:
        """What `labelstream discover --json` prints, looked for within the last hour; ``anew``: now."""

    async def entry(self, group: str, name: str) -> dict[str, Any]:
        """What `labelstream discover --make GROUP --name NAME --json` prints. RefusedError if it cannot."""


@dataclass(frozen=True, kw_only=True)
class PagePorts:
    """The ports of the page's routes."""

    overview: Overview
    operations: Operations
    review: ReviewDesk
    audit: Audit
    quality: Quality
