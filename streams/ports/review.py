"""The review queue as its users see it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from streams.core.messages import Column, Confidence, Labeled, Moment
from streams.core.times import micros_of
from streams.ports.lookups import Place

# The queues; and `drawn_by` of an answer: the queue that its row came from, or `search` where somebody looked
# it up.
Queue = Literal["audit", "unsure", "disagreements"]
DrawnBy = Literal["audit", "unsure", "search", "disagreements"]
AUDIT: Final = "audit"
UNSURE: Final = "unsure"
SEARCH: Final = "search"
DISAGREEMENTS: Final = "disagreements"
# Answers.
Answer = Literal["not-sure", "no-label"]
LABEL: Final = "label"
NOT_SURE: Final = "not-sure"
NO_LABEL: Final = "no-label"
TAKEN_BACK: Final = "taken-back"


def item_key(place: Place, queue: str) -> str:
    """The key of a row in a queue: its time in microseconds, and its id in hexadecimal; then the queue, but
    for the unsure one.
    """
    row = f"{micros_of(place.created_at)}.{place.row_id.encode('utf-8', 'replace').hex()}"
    return row if queue == UNSURE else f"{row}/{queue}"


class ReviewAnswer(BaseModel):
    """An answer of a reviewer that is no label, as ``review_answers`` stores it. Labels are in
    ``logs_labeled``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    row_id: str = Field(description="The row.")
    created_at: Moment = Field(description="The row's time, UTC.")
    text: str = Field(description="The row's text.")
    source_domain: Annotated[str | None, Column("LowCardinality(Nullable(String))")] = Field(
        default=None, description="The domain that the source table itself had noted."
    )
    answer: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="`not-sure`; `no-label`, where no label of the taxonomy fits; `taken-back`, where the "
        "answer before it no longer stands."
    )
    who: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="Name of the reviewer's API key; `local` where none is asked for."
    )
    answered_at: Moment = Field(description="When, UTC. Of several answers of one person the last counts.")
    drawn_by: Annotated[str | None, Column("LowCardinality(Nullable(String))")] = Field(
        default=None, description="The queue that the row came from, as in `logs_labeled`."
    )
    draw_probability: Confidence | None = Field(
        default=None,
        description="The probability with which the row was drawn, null where it was not drawn at random.",
    )


@dataclass(frozen=True)
class HumanAnswer:
    """One person's answer about a row. Answers that were taken back are none.

    ``label``: where ``answer`` is `label`. ``drawn_by``: `audit`, `unsure`, `search`, `disagreements`; None
    for labels before there were queues, and for imported ones. An answer by `disagreements` settles what
    others answered differently, and is beside an answer of the same person by `audit`. ``draw_probability``:
    of the row, between 0 and 1; None where it was not drawn at random.
    """

    row_id: str
    created_at: datetime
    text: str
    source_domain: str | None
    answer: Literal["label", "not-sure", "no-label"]
    label: str | None
    who: str
    answered_at: datetime
    drawn_by: str | None
    draw_probability: float | None


@dataclass(frozen=True)
class GoldLabel:
    """A row and the answer of people that counts. ``label``: `no-label` where no label fits.

    ``draw_probability``: of the row, whoever gave the answer.
    """

    row_id: str
    created_at: datetime
    text: str
    label: str
    labeled_by: str
    labeled_at: datetime
    drawn_by: str | None = None
    draw_probability: float | None = None

    def values(self) -> tuple[Any, ...]:
        """For a line of CSV, in the order of GOLD_COLUMNS."""
        found = (getattr(self, name) for name in GOLD_COLUMNS)
        return tuple(one.isoformat() if isinstance(one, datetime) else one for one in found)


GOLD_COLUMNS = tuple(one.name for one in fields(GoldLabel))


@dataclass(frozen=True)
class ReviewCounts:
    """``labeled``: rows with a human label; ``waiting``: current labels without one, of which ``unsure`` are
    under 0.6. ``audit``: drawn rows that wait for an answer; ``disagreements``: rows to be settled.
    ``kappa``: of the ``doubled`` rows that two people answered in the last three months, -1 to 1; None if
    there are too few.
    """

    labeled: int
    waiting: int
    unsure: int
    audit: int = 0
    disagreements: int = 0
    kappa: float | None = None
    doubled: int = 0


@dataclass(frozen=True)
class Choice:
    """A label to choose."""

    name: str
    title: str


@dataclass(frozen=True)
class ReviewRow:
    """A row as a reviewer gets it. ``labeled``: its current label, but in the blind queues. ``answers``:
    those that differ, as label or `no-label`, only in the queue of disagreements.
    """

    place: Place
    text: str
    labeled: Labeled | None = None
    answers: Sequence[str] = ()


class ReviewDesk(Protocol):
    """The review queues, for the desk of one reviewer (``owner``: a key's name and a browser tab).

    A row that was found by search need not be claimed, and can be answered again.

    Raises UnavailableError, ConfigurationError; RefusedError if the row is not the reviewer's.
    """

    async def choices(self) -> Sequence[Choice]:
        """The labels, the most frequent first."""

    async def claim(self, owner: str, want: int, queue: Queue = "unsure") -> Sequence[ReviewRow]:
        """At most ``want`` rows that nobody else has, in the queue's order, including those that the reviewer
        already holds.
        """

    async def label(self, owner: str, place: Place, label: str, queue: DrawnBy = "unsure") -> None:
        """Publish the reviewer's label."""

    async def answer(self, owner: str, place: Place, answer: Answer, queue: DrawnBy = "unsure") -> None:
        """Store an answer without a label."""

    async def skip(self, owner: str, place: Place, queue: Queue = "unsure") -> None:
        """Leave the row to another reviewer."""

    async def undo(self, owner: str, place: Place, queue: DrawnBy = "unsure") -> ReviewRow:
        """Take the reviewer's own answer back; the row is the reviewer's again."""

    async def release(self, owner: str) -> None:
        """Return all rows that are held."""

    async def counts(self) -> ReviewCounts:
        """How many rows are labelled and waiting."""

    def gold(self) -> AsyncIterator[GoldLabel]:
        """Every row that somebody judged, by row time, with the answer that counts."""
