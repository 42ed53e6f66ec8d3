"""Whether the audited rows are right as often as they were, however often one looks.

A mean of e-detectors (Shin, Ramdas and Rinaldo, arXiv 2203.03532), bets that labels are wrong more often
than allowed: M <- max(1, M)(1 + lambda w (wrong - allowed)). As long as they are not, it takes 10,000 judged
rows on average until M reaches 10,000, whenever one looks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

# Judged rows that tell what is usual, and by how much labels may be wrong more often.
REFERENCE_ROWS, _SLACK = 200, 0.01
LIMIT = 10_000.0
_BETS = (0.25, 0.5, 1.0, 2.0)


class JudgedLabel(NamedTuple):
    """A drawn row that a person judged, in order of time. ``probability``: with which it was drawn."""

    right: bool
    probability: float


class AccuracyWatch(NamedTuple):
    """``wrong``: the usual share of wrong labels; None as long as too few rows are judged. ``now``: that of
    the last 200 rows after these. ``evidence``: M, of which 10,000 are an alarm.
    """

    rows: int
    wrong: float | None
    now: float | None
    evidence: float

    @property
    def alarm(self) -> bool:
        return self.evidence >= LIMIT


def watched(labels: Sequence[JudgedLabel]) -> AccuracyWatch:
    """The state after ``labels``; the first 200 are the reference."""
    first, later = labels[:REFERENCE_ROWS], labels[REFERENCE_ROWS:]
    if len(first) < REFERENCE_ROWS:
        return AccuracyWatch(len(labels), None, None, 0.0)
    usual = _share(first)
    allowed = min(_upper(usual, len(first)) + _SLACK, 0.99)
    least = min(one.probability for one in labels)
    evidence = [1.0] * len(_BETS)
    for one in later:
        # A row that was likelier to be drawn counts less, so that all count as rows drawn alike.
        weight = least / one.probability
        for number, bet in enumerate(_BETS):
            step = 1.0 + min(bet, 0.9 / allowed) * weight * ((not one.right) - allowed)
            evidence[number] = min(max(evidence[number], 1.0) * step, 1e12)
    mean = sum(evidence) / len(evidence) if later else 0.0
    return AccuracyWatch(len(labels), usual, _share(later[-REFERENCE_ROWS:]) if later else None, mean)


def _share(labels: Sequence[JudgedLabel]) -> float:
    weights = [1.0 / one.probability for one in labels]
    return sum(w for w, one in zip(weights, labels, strict=True) if not one.right) / sum(weights)


def _upper(share: float, rows: int) -> float:
    """Wilson's upper 95 % bound, one-sided."""
    z = 1.645
    middle = share + z * z / (2 * rows)
    half = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return (middle + half) / (1 + z * z / rows)
