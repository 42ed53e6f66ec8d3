"""How right the labels are above each confidence, and what part of the rows they are (risk and coverage)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.quality.estimates import ONE_SIDED, Sample, running_shares

# Points of the curve.
_MOST = 100


class CoveragePoint(NamedTuple):
    """Rows whose confidence is at least ``threshold``: their share of all, and how many of them are right.

    ``accuracy_low``: lower bound of the accuracy at this threshold (one side, 95 %).
    """

    threshold: float
    coverage: float
    accuracy: float
    accuracy_low: float


class Coverage(NamedTuple):
    """``curve``: from the greatest confidence down, at most 101 points. ``least``: the one with the least
    threshold whose ``accuracy_low`` reaches what was asked for; None if none does. It is part of the curve.
    """

    curve: Sequence[CoveragePoint]
    least: CoveragePoint | None


def coverage(sample: Sample, wanted: float) -> Coverage:
    """Of the rows with a confidence; those without one are never above a threshold, and count as not covered.

    A threshold that is chosen by the accuracy itself, not by its bound, keeps the promise in half of all
    cases.
    """
    told = sample.where(~np.isnan(sample.confidence))
    if not len(told):
        return Coverage([], None)
    order = np.argsort(-told.confidence, kind="stable")
    told = told.where(order)
    value, low, _, _ = running_shares(told.right, told.weight, ONE_SIDED)
    covered = told.weight.cumsum() / sample.weight.sum()
    # Rows of one confidence are above a threshold together.
    last = np.flatnonzero(np.append(told.confidence[1:] != told.confidence[:-1], True))
    reaching = last[low[last] >= wanted]
    shown = _spread(last, len(told))
    if len(reaching):
        shown = np.union1d(shown, reaching[-1:])
    points = {
        int(at): CoveragePoint(
            float(told.confidence[at]), min(1.0, float(covered[at])), float(value[at]), float(low[at])
        )
        for at in shown
    }
    return Coverage(list(points.values()), points[int(reaching[-1])] if len(reaching) else None)


def _spread(last: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """At most 100 of the positions ``last``, evenly by rows, the very last among them."""
    wanted = np.linspace(rows / _MOST, rows, _MOST) - 1
    found: NDArray[np.int64] = np.unique(last[np.minimum(np.searchsorted(last, wanted), len(last) - 1)])
    return found
