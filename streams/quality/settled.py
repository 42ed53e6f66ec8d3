"""What is right of each row, from all that people answered about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from connectors.clickhouse.queries.gold import settled
from streams.ports.lookups import Place
from streams.ports.review import AUDIT, DISAGREEMENTS, NOT_SURE, SEARCH, HumanAnswer


@dataclass(frozen=True)
class SettledRow:
    """``judged``: whether anybody was sure; then ``label`` is right, or None where no label fits.

    ``probability``: with which the row was drawn, whoever answered and by which queue; None if it was not
    drawn at random. ``disputed``: as `differ`. ``last``: the answer that counts.
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


def differ(answers: Iterable[HumanAnswer]) -> bool:
    """Whether a row of the audit was judged differently, there or by somebody who found it by search, and
    nobody who is sure has settled it.
    """
    sure = [one for one in answers if one.answer != NOT_SURE]
    audited = any(one.drawn_by == AUDIT for one in sure)
    judged = {one.label for one in sure if one.drawn_by in (AUDIT, SEARCH)}
    return audited and len(judged) > 1 and all(one.drawn_by != DISAGREEMENTS for one in sure)


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
        differ(answers),
        last,
    )
