"""The share of right labels, with its interval, from rows that were drawn with known probabilities.

Each row counts 1 / probability (Hajek's estimator). The interval is Wilson's, with the number of rows that an
equal draw of the same precision would have.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

# Two-sided 95 %, and the bound of one side.
TWO_SIDED = NormalDist().inv_cdf(0.975)
ONE_SIDED = NormalDist().inv_cdf(0.95)
# Kish's variance counts as much as so many rows of the rarer kind: intervals of small draws with unequal
# weights hold the truth as often as they say, in simulations.
KISH_ROWS = 8

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Interval(NamedTuple):
    """An estimate and its bounds. ``effective``: rows of an equal draw with this precision.

    With no rows, ``value`` is None and the bounds are 0 and 1.
    """

    value: float | None
    low: float
    high: float
    effective: float


@dataclass(frozen=True, slots=True)
class Judged:
    """A row's label under a version, and what is right.

    ``gold``: None: no label of the taxonomy fits, so that none is right. ``weight``: 1 / the probability with
    which the row was drawn. ``confidence``: of the given label, 0 to 1; None if there is none.
    """

    gold: str | None
    given: str
    weight: float = 1.0
    confidence: float | None = None

    @property
    def right(self) -> bool:
        """Whether the given label is the right one."""
        return self.given == self.gold


@dataclass(frozen=True)
class Sample:
    """Judged rows by columns, all of one length. ``confidence``: NaN where there is none."""

    right: Flags
    weight: Floats
    confidence: Floats
    gold: NDArray[np.object_]
    given: NDArray[np.object_]

    @classmethod
    def of(cls, rows: Iterable[Judged]) -> Self:
        """From rows."""
        rows = list(rows)
        return cls(
            np.array([one.right for one in rows], dtype=bool),
            np.array([one.weight for one in rows], dtype=float),
            np.array([math.nan if one.confidence is None else one.confidence for one in rows], dtype=float),
            _objects([one.gold for one in rows]),
            _objects([one.given for one in rows]),
        )

    def __len__(self) -> int:
        return len(self.right)

    def where(self, chosen: NDArray[Any]) -> Sample:
        """The rows of a mask or of positions."""
        return Sample(
            self.right[chosen],
            self.weight[chosen],
            self.confidence[chosen],
            self.gold[chosen],
            self.given[chosen],
        )


def accuracy(rows: Sequence[Judged] | Sample) -> Interval:
    """The weighted share of right labels, with a 95 % interval."""
    found = rows if isinstance(rows, Sample) else Sample.of(rows)
    return share(found.right, found.weight)


def share(flags: Flags, weight: Floats, z: float = TWO_SIDED) -> Interval:
    """The weighted share of ``flags`` that are true. ``z``: normal quantile of the bounds."""
    if not len(flags):
        return Interval(None, 0.0, 1.0, 0.0)
    value, low, high, effective = (float(one[-1]) for one in running_shares(flags, weight, z))
    return Interval(value, low, high, effective)


def running_shares(flags: Flags, weight: Floats, z: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Shares, lower and upper bounds and effective rows of the first row, the first two, and so on.

    The variance is that of the residuals. A few rows of the rarer kind tell little of it, so it is mixed with
    Kish's, which is that of weights that have nothing to do with being right.
    """
    ones = flags.astype(float)
    count, right = np.arange(1, len(flags) + 1), ones.cumsum()
    total, squares = weight.cumsum(), (weight**2).cumsum()
    value = np.minimum((weight * ones).cumsum() / total, 1.0)
    # The sum of (weight * (flag - value))^2, value being another one in each row.
    residual = (weight**2 * ones).cumsum() * (1 - 2 * value) + value**2 * squares
    rarer = np.minimum(right, count - right)
    plain = value * (1 - value)
    mixed = (rarer * residual + KISH_ROWS * plain * squares) / (rarer + KISH_ROWS)
    kish = total**2 / squares
    effective = np.where(rarer > 0, plain * total**2 / np.where(rarer > 0, mixed, 1.0), kish)
    return value, *wilson(value, effective, z), effective


def wilson(value: Floats, effective: Floats, z: float = TWO_SIDED) -> tuple[Floats, Floats]:
    """Wilson's bounds of shares, from the numbers of rows, which need not be whole."""
    square = z * z / effective
    middle = (value + square / 2) / (1 + square)
    half = z * np.sqrt(value * (1 - value) / effective + square / (4 * effective)) / (1 + square)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def rows_missing(found: Interval, rows: int, half_width: float = 0.02) -> int | None:
    """How many more rows of the same draw make the interval ``half_width`` to each side; None without any."""
    if found.value is None:
        return None
    tried = np.unique(np.geomspace(1, 1e7, 2_000).round())
    lower, upper = wilson(np.full(len(tried), found.value), tried)
    needed = float(tried[np.argmax((upper - lower) / 2 <= half_width)])
    return max(0, math.ceil((needed / found.effective - 1) * rows))


def _objects(values: Sequence[str | None]) -> NDArray[np.object_]:
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found
