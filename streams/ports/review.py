"""The review queue as its users see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from streams.core.messages import Labeled
from streams.ports.lookups import Place


@dataclass(frozen=True)
class GoldLabel:
    """A row and the label that a person gave it last."""

    row_id: str
    created_at: datetime
    text: str
    label: str
    labeled_by: str
    labeled_at: datetime


@dataclass(frozen=True)
class ReviewCounts:
    """``labeled``: rows with a human label; ``waiting``: current labels without one, of which ``unsure`` are
    under 0.6.
    """

    labeled: int
    waiting: int
    unsure: int


@dataclass(frozen=True)
class Choice:
    """A label to choose."""

    name: str
    title: str


class ReviewDesk(Protocol):
    """The review queue, for the desk of one reviewer (``owner``: a key's name and a browser tab).

    Raises UnavailableError, ConfigurationError; RefusedError if the row is not the reviewer's.
    """

    async def choices(self) -> Sequence[Choice]:
        """The labels, the most frequent first."""

    async def claim(self, owner: str, want: int) -> Sequence[Labeled]:
        """At most ``want`` rows that nobody else has, the least confident first, including those that the
        reviewer already holds.
        """

    async def label(self, owner: str, place: Place, label: str) -> Labeled:
        """Publish the reviewer's label."""

    async def skip(self, owner: str, place: Place) -> None:
        """Leave the row to another reviewer."""

    async def undo(self, owner: str, place: Place) -> Labeled:
        """Take the reviewer's own label back; the row is the reviewer's again."""

    async def release(self, owner: str) -> None:
        """Return all rows that are held."""

    async def counts(self) -> ReviewCounts:
        """How many rows are labelled and waiting."""

    def gold(self) -> AsyncIterator[GoldLabel]:
        """Every row's last human label, by row time."""
