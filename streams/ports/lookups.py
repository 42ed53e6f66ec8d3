"""Queries of the result tables, as plain values: the API asks, the ClickHouse connector answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from streams.core.messages import Augmented, DeadLetter, Labeled


class Place(NamedTuple):
    """A row's position in the order of the tables: its time and its id."""

    created_at: datetime
    row_id: str


@dataclass(frozen=True, kw_only=True)
class LabelQuery:
    """Conditions on labels; None: no condition.

    ``text``: a part of the row's text, ignoring case. ``since`` (inclusive) and ``until`` (exclusive): the
    row's time. ``version``: that version's labels; None: each row's current one.
    """

    text: str | None = None
    label: str | None = None
    min_confidence: float | None = None
    max_confidence: float | None = None
    since: datetime | None = None
    until: datetime | None = None
    version: str | None = None


@dataclass(frozen=True)
class LabelPage:
    """Labels, the newest rows first. ``next``: the last position of this page; None if there is no next page.
    A page may be short, or empty, and have a next one.
    """

    labels: list[Labeled]
    next: Place | None


@dataclass(frozen=True)
class RowHistory:
    """Everything that is stored for an id. Two rows with one id and different times are both here.

    ``labels`` and ``variants``: the newest row first, then by the time of the step. ``current``: row times
    and versions of the labels that are the rows' current ones.
    """

    labels: list[Labeled]
    current: frozenset[tuple[datetime, str]]
    variants: list[Augmented]
    dead_letters: list[DeadLetter]


class Lookups(Protocol):
    """Queries of the result tables. Raises UnavailableError, OverloadedError, ConfigurationError."""

    async def row(self, row_id: str) -> RowHistory | None:
        """The history of an id; None if nothing is stored for it."""

    async def search(self, query: LabelQuery, after: Place | None, limit: int) -> LabelPage:
        """At most ``limit`` labels that come after ``after``."""
