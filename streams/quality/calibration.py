"""Fits a calibration to drawn rows: temperature where they are few, isotonic regression where they are many.

It is fitted on four fifths of the rows and tried on the fifth that is left out, five times. If the log loss
of those rows is not smaller than without it, confidence stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streams.core.calibration import UNREPORTED, ConfidenceScale, Method
from streams.core.errors import optional_packages
from streams.quality.estimates import Flags, Floats

FEWEST_ROWS = 200
ISOTONIC_ROWS = 1000
_FOLDS = 5
_SEED = 20
# No certainty in a probability: what is wrong once would else cost more than all others together.
_LEAST = 1e-6
_MOST_POINTS = 50
_TEMPERATURES = (0.05, 20.0)


class LabelChance(NamedTuple):
    """A drawn row's label as the model reported it.

    ``confidence``: of the label, 0..1; ``others``: of the other labels that were reported. ``weight``: 1 /
    the probability with which the row was drawn.
    """

    confidence: float
    others: Sequence[float]
    right: bool
    weight: float = 1.0


class Fit(NamedTuple):
    """``scale`` is `raw` if no other makes rows left out likelier. ``log_loss``: of these rows, with the one
    that was tried; ``log_loss_raw``: without it.
    """

    scale: ConfidenceScale
    rows: int
    log_loss: float
    log_loss_raw: float


def fit(rows: Sequence[LabelChance]) -> Fit:
    """The calibration of drawn rows.

    Raises:
        ValueError: there are fewer than FEWEST_ROWS.
    """
    if len(rows) < FEWEST_ROWS:
        raise ValueError(f"{len(rows)} of {FEWEST_ROWS} drawn rows")
    found = _Rows.of(rows)
    method: Method = "isotonic" if len(rows) >= ISOTONIC_ROWS else "temperature"
    fold = np.random.default_rng(_SEED).permutation(len(rows)) % _FOLDS
    tried = np.empty(len(rows))
    for number in range(_FOLDS):
        out = fold == number
        tried[out] = _applied(_fitted(method, found.where(~out)), found.where(out))
    loss, raw = (_log_loss(chances, found) for chances in (tried, found.confidence))
    scale = _fitted(method, found) if loss < raw else ConfidenceScale()
    return Fit(scale, len(rows), loss, raw)


class _Rows(NamedTuple):
    """``chances``: a line a row: the label, the others, zeros, and what was not reported."""

    chances: Floats
    right: Flags
    weight: Floats

    @classmethod
    def of(cls, rows: Sequence[LabelChance]) -> _Rows:
        chances = np.zeros((len(rows), 2 + max(len(one.others) for one in rows)))
        for line, one in zip(chances, rows, strict=True):
            line[0] = one.confidence
            line[1 : 1 + len(one.others)] = one.others
            rest = 1.0 - one.confidence - sum(one.others)
            line[-1] = rest if rest > UNREPORTED else 0.0
        return cls(
            chances,
            np.array([one.right for one in rows], dtype=bool),
            np.array([one.weight for one in rows], dtype=float),
        )

    @property
    def confidence(self) -> Floats:
        first: Floats = self.chances[:, 0]
        return first

    def where(self, chosen: Flags) -> _Rows:
        return _Rows(self.chances[chosen], self.right[chosen], self.weight[chosen])


def _fitted(method: Method, rows: _Rows) -> ConfidenceScale:
    return _temperature(rows) if method == "temperature" else _isotonic(rows)


def _temperature(rows: _Rows) -> ConfidenceScale:
    with optional_packages("a calibration"):
        from scipy.optimize import minimize_scalar  # takes long to import

    def loss(log_temperature: float) -> float:
        return _log_loss(_cooled(rows, math.exp(log_temperature)), rows)

    low, high = (math.log(one) for one in _TEMPERATURES)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-3})
    return ConfidenceScale(method="temperature", temperature=round(math.exp(float(best.x)), 4))


def _cooled(rows: _Rows, temperature: float) -> Floats:
    powers = rows.chances ** (1 / temperature)
    total = powers.sum(axis=1)
    found: Floats = np.divide(powers[:, 0], total, out=np.zeros(len(total)), where=total > 0)
    return found


def _isotonic(rows: _Rows) -> ConfidenceScale:
    with optional_packages("a calibration"):
        from scipy.optimize import isotonic_regression

    order = np.argsort(rows.confidence, kind="stable")
    raw, weight = rows.confidence[order], rows.weight[order]
    # Equal confidences are one: each has one calibrated value.
    values, starts = np.unique(raw, return_index=True)
    weights = np.add.reduceat(weight, starts)
    shares = np.add.reduceat(weight * rows.right[order], starts) / weights
    level = isotonic_regression(shares, weights=weights).x
    # A step of rows that are all right is as certain as so many rows make it.
    least = 1 / (len(raw) + 2)
    level = np.clip(level, least, 1 - least)
    steps = np.flatnonzero(np.diff(level)) + 1
    bounds = [0, *steps.tolist(), len(values)]
    points = [
        (float(np.average(values[a:b], weights=weights[a:b])), float(level[a])) for a, b in pairwise(bounds)
    ]
    while len(points) > _MOST_POINTS:
        points = points[::2] + ([points[-1]] if len(points) % 2 == 0 else [])
    rounded = {round(a, 6): round(b, 6) for a, b in points}
    return ConfidenceScale(method="isotonic", points=tuple(rounded.items()))


def _applied(scale: ConfidenceScale, rows: _Rows) -> Floats:
    if scale.method == "temperature":
        return _cooled(rows, scale.temperature)
    x, y = (np.array(one) for one in zip(*scale.points, strict=True))
    found: Floats = np.interp(rows.confidence, x, y)
    return found


def _log_loss(chances: Floats, rows: _Rows) -> float:
    bounded = np.clip(chances, _LEAST, 1 - _LEAST)
    each = -np.where(rows.right, np.log(bounded), np.log1p(-bounded))
    return float(np.average(each, weights=rows.weight))
