"""What is right of each row, from all that people answered about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from connectors.clickhouse.queries.gold import settled
from streams.ports.lookups import Place
from streams.ports.review import DISAGREEMENTS, NOT_SURE, HumanAnswer


@dataclass(frozen=True)
class SettledRow:
    """``judged``: whether anybody was sure; then ``label`` is right, or None where no label fits.

    ``probability``: with which the row was drawn, whoever answered and by which queue; None if it was not
    drawn at random. ``disputed``: people answered differently, and nobody has settled it: the last answer
    counts. ``last``: the answer that counts.
    """

    place: Place
    text: str
    source_domain: str | None
    judged: bool
    label: str | None
    probability: float | None
    disputed: bool
    last: HumanAnswer


def settled_rows(answers: Iterable[HumanAnswer]) -> list[SettledRow]:
    """One for each row of ``answers``, which are in order of rows."""
    return [_settled(list(some)) for _, some in groupby(answers, key=_place)]


def _place(one: HumanAnswer) -> Place:
    return Place(one.created_at, one.row_id)


def _settled(answers: list[HumanAnswer]) -> SettledRow:
    sure = [one for one in answers if one.answer != NOT_SURE]
    last = settled(sure or answers)
    return SettledRow(
        _place(last),
        last.text,
        last.source_domain,
        bool(sure),
        last.label,
        max((one.draw_probability for one in answers if one.draw_probability), default=None),
        last.drawn_by != DISAGREEMENTS and len({one.label for one in sure}) > 1,
        last,
    )
