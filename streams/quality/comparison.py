"""Two versions compared on the same gold rows: the candidate is better, not worse, worse, or it is undecided.

Only the rows on which one is right and the other wrong tell them apart. They are tested by McNemar's test
with the mid-p value, the difference of the accuracies by Tango's score test, and the recall of each label by
the exact test with Holm's correction. Rows that were drawn with unequal probabilities count 1 / probability;
then the tests use the numbers of rows that an equal draw of the same precision would have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, NamedTuple

from streams.core.errors import optional_packages
from streams.quality.estimates import KISH_ROWS, ONE_SIDED, TWO_SIDED

Answer = Literal["better", "not worse", "worse", "undecided"]

_LEVEL = 0.05
# Over all labels. As for "better", half of it: a label's loss overrules what is found of all rows.
_LABELS_LEVEL = _LEVEL / 2
_POWER = NormalDist().inv_cdf(0.8)
# Who asks again after each few rows gets many chances. Before the planned number of rows, only what is as
# certain as this counts as not worse (the rule of Haybittle and Peto).
_EARLY = NormalDist().inv_cdf(0.999)


class Pair(NamedTuple):
    """A gold row and its labels under both versions.

    ``gold``: None: no label of the taxonomy fits, so both are wrong. ``weight``: 1 / the probability with
    which the row was drawn.
    """

    gold: str | None
    current: str
    candidate: str
    weight: float = 1.0


@dataclass(frozen=True)
class LabelLoss:
    """A label's rows that only the candidate has right (``won``), or only the current version (``lost``).

    ``p``: how likely chance makes it look like a loss of more than the margin, after Holm's correction.
    """

    label: str
    rows: int
    won: int
    lost: int
    p: float


@dataclass(frozen=True)
class Verdict:
    """The answer, and what it rests on.

    ``difference``: accuracy of the candidate minus that of the current version, with a 95 % interval from
    ``low`` to ``high``. ``won`` and ``lost``: rows that only the candidate, or only the current version, has
    right. ``p``: McNemar's, two-sided. ``labels``: those whose recall is worse by more than the margin.
    ``more``: how many more rows decide with a power of 80 %, if it is undecided.
    """

    answer: Answer
    margin: float
    rows: int
    accuracy_current: float | None
    accuracy_candidate: float | None
    won: int
    lost: int
    difference: float
    low: float
    high: float
    p: float
    labels: Sequence[LabelLoss]
    more: int


def compare(pairs: Sequence[Pair], margin: float) -> Verdict:
    """Compare the candidate with the current version. ``margin``: an accepted loss of accuracy, 0..1."""
    counts = _Counts.of(pairs)
    labels = _worse_labels(pairs, margin)
    answer: Answer = "worse" if labels else counts.answer(margin)
    total = sum(one.weight for one in pairs)
    low, high = counts.interval()
    return Verdict(
        answer=answer,
        margin=margin,
        rows=len(pairs),
        accuracy_current=_share(pairs, total, lambda one: one.current == one.gold),
        accuracy_candidate=_share(pairs, total, lambda one: one.candidate == one.gold),
        won=sum(1 for one in pairs if _won(one) > 0),
        lost=sum(1 for one in pairs if _won(one) < 0),
        difference=counts.difference,
        low=low,
        high=high,
        p=counts.p,
        labels=labels,
        more=counts.missing(margin, len(pairs)) if answer == "undecided" else 0,
    )


def rows_planned(disagreeing: float, margin: float, difference: float = 0.0) -> float:
    """Rows with which a version is found not worse by ``margin`` with a power of 80 %.

    ``disagreeing``: the share of rows that one version has right and the other wrong. ``difference``: the
    true one. With 10 % and 3 points: 687.
    """
    return (ONE_SIDED + _POWER) ** 2 * max(disagreeing, margin) / (margin + difference) ** 2


class _Counts(NamedTuple):
    """Numbers of an equal draw with the precision of the rows; not whole where weights differ."""

    rows: float
    won: float
    lost: float

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> _Counts:
        total = squares = won = lost = apart = 0.0
        differing = 0
        for one in pairs:
            total += one.weight
            squares += one.weight**2
            if sign := _won(one):
                differing += 1
                apart += one.weight**2
                won, lost = (won + one.weight, lost) if sign > 0 else (won, lost + one.weight)
        if not total:
            return cls(0.0, 0.0, 0.0)
        rows = total**2 / squares
        if apart:
            # Rows that differ may weigh more or less than the others, but a few of them tell little of it.
            precise = (won + lost) * total / apart
            rows = (differing + KISH_ROWS) / (differing / precise + KISH_ROWS / rows)
        return cls(rows, rows * won / total, rows * lost / total)

    @property
    def difference(self) -> float:
        return (self.won - self.lost) / self.rows if self.rows else 0.0

    def apart(self, errors: int) -> float:
        """The share of rows that differ, and so many of its standard errors more."""
        share = (self.won + self.lost) / self.rows
        return share + errors * math.sqrt(share * (1 - share) / self.rows)

    @property
    def p(self) -> float:
        return min(1.0, 2 * min(self._chance(self.won), self._chance(self.lost)))

    def answer(self, margin: float) -> Answer:
        if not self.rows:
            return "undecided"
        if self._chance(self.won) <= _LEVEL / 2:
            return "better"
        # A version that is worse would pass where chance shows few rows that differ.
        enough = self.rows >= rows_planned(self.apart(1), margin)
        if self.score(-margin) >= (ONE_SIDED if enough else _EARLY):
            return "not worse"
        return "worse" if self._chance(self.lost) <= _LEVEL else "undecided"

    def missing(self, margin: float, rows: int) -> int:
        """How many more rows decide, if all is as it looks; versions that look better are taken as equal."""
        if not self.rows:
            return math.ceil(rows_planned(0.1, margin))
        loss = min(0.0, max(self.difference, -margin))
        # Whichever is farther away is decided sooner: the margin, or equal versions.
        difference = loss if loss > -margin / 2 else -margin - loss
        # One standard error for this estimate, and one for that of `answer`.
        planned = rows_planned(self.apart(2), margin, difference)
        return max(1, math.ceil((planned / self.rows - 1) * rows))

    def interval(self) -> tuple[float, float]:
        """All differences that the score test does not reject."""
        if not self.rows:
            return -1.0, 1.0
        return (
            _bisect(-1.0, self.difference, lambda one: self.score(one) >= TWO_SIDED),
            _bisect(1.0, self.difference, lambda one: self.score(one) <= -TWO_SIDED),
        )

    def _chance(self, more: float) -> float:
        """The mid-p value of at least ``more`` of all that differ, if both versions are as good."""
        apart = self.won + self.lost
        if not apart:
            return 1.0
        return (_tail(more, apart) + (_tail(more + 1, apart) if more + 1 <= apart else 0.0)) / 2

    def score(self, difference: float) -> float:
        """By how many standard deviations the found difference is above this one (Tango 1998)."""
        n, won, lost = self
        away = won - lost - n * difference
        b = (2 * n - won + lost) * difference - won - lost
        root = math.sqrt(max(0.0, b * b + 8 * n * lost * difference * (1 - difference)))
        variance = n * ((root - b) / (2 * n) + difference * (1 - difference))
        if variance <= 1e-12:
            return 0.0 if abs(away) < 1e-9 else math.copysign(math.inf, away)
        return away / math.sqrt(variance)


def _worse_labels(pairs: Sequence[Pair], margin: float) -> list[LabelLoss]:
    """Labels whose recall is lower than before by more than ``margin``, with Holm's correction.

    Two tests must both say so: the exact one, that there is a loss at all, and the score test, that it is
    more than the margin. Versions that are equally good win some labels' rows and lose others' by a few
    points, and among many rows that is certain.
    """
    by_label: dict[str, list[Pair]] = {}
    for one in pairs:
        if one.gold is not None:
            by_label.setdefault(one.gold, []).append(one)
    tested = []
    for label, rows in by_label.items():
        counts = _Counts.of(rows)
        apart = counts.won + counts.lost
        # With fewer rows that differ nothing could be found, so the label is no test of the family (Tarone).
        if apart and 0.5**apart <= _LABELS_LEVEL:
            within = NormalDist().cdf(counts.score(-margin))
            tested.append((max(_tail(counts.lost, apart), within), label, rows))
    found, p = [], 0.0
    for place, (chance, label, rows) in enumerate(sorted(tested, key=lambda one: one[:2])):
        p = max(p, min(1.0, chance * (len(tested) - place)))
        if p > _LABELS_LEVEL:
            break
        won = sum(1 for one in rows if _won(one) > 0)
        found.append(LabelLoss(label, len(rows), won, sum(1 for one in rows if _won(one) < 0), p))
    return found


def _won(one: Pair) -> int:
    """1 if only the candidate is right, -1 if only the current version is, else 0."""
    return (one.candidate == one.gold) - (one.current == one.gold)


def _share(pairs: Sequence[Pair], total: float, right: Callable[[Pair], bool]) -> float | None:
    return sum(one.weight for one in pairs if right(one)) / total if total else None


def _tail(least: float, of: float) -> float:
    """The chance of at least ``least`` heads in ``of`` throws of a coin; neither need be whole."""
    if least <= 0:
        return 1.0
    with optional_packages("a comparison of label versions"):
        from scipy.special import betainc  # takes long to import

    return float(betainc(least, of - least + 1, 0.5))


def _bisect(outside: float, inside: float, rejected: Callable[[float], bool]) -> float:
    for _ in range(40):
        middle = (outside + inside) / 2
        if rejected(middle):
            outside = middle
        else:
            inside = middle
    return inside
