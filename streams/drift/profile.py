"""The reference: what each hour of a weekday and of a weekend is like, and how far hours differ from it.

Rows are not independent: equal texts come again and again, often together. So the spread is not taken from a
formula but from the reference itself, as the square of how far each of its hours (pairs of hours, days) is
from what all other days say, in units of the variance of independent rows: the overdispersion
(McCullagh and Nelder, Generalized Linear Models, 1989, 4.5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.drift.counts import MEANS, UNKNOWN, Counts

Numbers = NDArray[np.float64]

_HOURS = 24
# A cell of the profile: an hour of the day, on weekdays or weekends. It is judged from so many days on.
_LEAST_DAYS = 2
# Blocks of the reference that tell a spread; and as how many blocks the mean of all series counts.
_LEAST_BLOCKS, _POOL = 8, 20.0
_SCRIPT = "script:"
_LABEL = "label:"


class JudgedSeries(NamedTuple):
    """A series in a window: how likely such a distance is by chance, what was found and expected (a share or
    a mean), and whether the reference was ever as far from itself.
    """

    chance: float
    found: float
    expected: float
    usual: bool


def names_of(some: Sequence[Counts]) -> list[str]:
    """The series of ``some``: `label:...`, `script:...`, and the means."""
    labels = sorted({name for one in some for name in one.labels})
    scripts = sorted({name for one in some for name in one.scripts})
    return [*(_LABEL + one for one in labels), *(_SCRIPT + one for one in scripts), *MEANS]


def _columns(names: Sequence[str], counts: Counts) -> tuple[list[float], list[float], list[float]]:
    """Of each series: the sum, the number of rows, and the sum of squares."""
    rows, looked_at = float(counts.rows), float(sum(counts.scripts.values()))
    sums, of, squares = [], [], []
    for name in names:
        if name.startswith(_LABEL):
            one = (rows, float(counts.labels.get(name.removeprefix(_LABEL), 0)), 0.0)
        elif name.startswith(_SCRIPT):
            one = (looked_at, float(counts.scripts.get(name.removeprefix(_SCRIPT), 0)), 0.0)
        else:
            one = counts.means.get(name, (0.0, 0.0, 0.0))
        of.append(one[0])
        sums.append(one[1])
        squares.append(one[2])
    return sums, of, squares


def _weekend(day: int) -> int:
    return int((day + 3) % 7 >= 5)  # 1970-01-01 was a Thursday


class Profile:
    """The reference of all series. ``names``: of the series, in order."""

    def __init__(
        self, names: Sequence[str], hours: Mapping[int, Counts], left_out: Mapping[int, set[str]]
    ) -> None:
        """``hours``: by hours since 1970. ``left_out``: the series that an hour tells nothing about."""
        self.names = list(names)
        self._is_mean = np.array([name in MEANS for name in names])
        self._one_sided = np.array([name == UNKNOWN for name in names])
        first = min(hours, default=0) // _HOURS
        days = max(hours, default=0) // _HOURS - first + 1
        shape = (days, _HOURS, len(names))
        self._sums, self._of, squares = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        for hour, counts in hours.items():
            place = hour // _HOURS - first, hour % _HOURS
            self._sums[place], self._of[place], squares[place] = _columns(names, counts)
            for name in left_out.get(hour, ()):
                if name in self.names:
                    column = self.names.index(name)
                    self._sums[(*place, column)] = self._of[(*place, column)] = 0.0
                    squares[(*place, column)] = 0.0
        self._kind = np.array([_weekend(first + day) for day in range(days)])
        self._smooth_sums, self._smooth_of = _smooth(self._sums), _smooth(self._of)
        kinds = [self._kind == kind for kind in (0, 1)]
        # By weekday or weekend, hour of the day, and series.
        self._level_sums = np.stack([self._smooth_sums[one].sum(0) for one in kinds])
        self._level_of = np.stack([self._smooth_of[one].sum(0) for one in kinds])
        self._rows = np.stack([self._of[one].sum(0) for one in kinds])
        self._days = np.stack([(self._smooth_of[one] > 0).sum(0) for one in kinds])
        of = np.maximum(self._of.sum((0, 1)), 1.0)
        mean = self._sums.sum((0, 1)) / of
        self._row_variance = np.maximum(squares.sum((0, 1)) / of - mean**2, 1e-12)
        self._residuals: dict[int, tuple[Numbers, Numbers, Numbers]] = {}

    def judge(self, parts: Sequence[tuple[int, Counts]]) -> list[JudgedSeries | None]:
        """Of each series, in order; None where the reference does not know enough yet.

        ``parts``: the window's rows by hours since 1970; an hour may have several parts.
        """
        width = len(self.names)
        found, of, expected, variance, rows = (np.zeros(width) for _ in range(5))
        ready = np.ones(width, dtype=bool)
        cells: set[tuple[int, int]] = set()
        for hour, counts in parts:
            sums, number, _ = (np.array(one) for one in _columns(self.names, counts))
            cell = _weekend(hour // _HOURS), hour % _HOURS
            level = self._level(self._level_sums[cell], self._level_of[cell])
            found, of = found + sums, of + number
            expected += number * level
            variance += number * self._variance_of(level)
            ready &= (self._days[cell] >= _LEAST_DAYS) | (number == 0)
            if cell not in cells:
                rows = rows + self._rows[cell]
                cells.add(cell)
        ready &= (of > 0) & (rows >= 1.5 * of)
        variance *= 1.0 + of / np.maximum(rows, 1.0)  # what the reference itself does not know
        spread, degrees, most = self._spread(len({hour for hour, _ in parts}))
        level, share = expected / np.maximum(of, 1.0), found / np.maximum(of, 1.0)
        deviation = np.sqrt(np.maximum(variance, 1e-12))
        distance = (found - expected) / deviation
        # What is known can only become less unknown, in the end: one-sided.
        from scipy.special import stdtr  # takes long to import

        scaled = np.where(self._one_sided, distance, np.abs(distance)) / np.sqrt(spread)
        tail = stdtr(degrees, -scaled)
        # As so many independent rows: the tails of small numbers are no normal ones.
        independent = np.maximum(of * level * (1.0 - level), 1e-12)
        fewer = np.maximum(variance / independent, 1.0) * spread
        exact = _binomial_tail(found / fewer, of / fewer, np.clip(level, 1e-12, 1.0 - 1e-12))
        tail = np.where(self._is_mean, tail, np.maximum(tail, exact))
        chance = np.minimum(np.where(self._one_sided, 1.0, 2.0) * tail, 1.0)
        usual = np.abs(distance) <= most
        return [
            JudgedSeries(float(chance[k]), float(share[k]), float(level[k]), bool(usual[k]))
            if ready[k]
            else None
            for k in range(width)
        ]

    def _level(self, sums: Numbers, of: Numbers) -> Numbers:
        """The share or the mean; a share is never 0 or 1."""
        plain = sums / np.maximum(of, 1.0)
        share = (sums + 0.5) / (of + 1.0)
        level: Numbers = np.where(self._is_mean, plain, share)
        return level

    def _variance_of(self, level: Numbers) -> Numbers:
        """Of one row, if rows were independent."""
        found: Numbers = np.where(self._is_mean, self._row_variance, level * (1.0 - level))
        return found

    def _spread(self, hours: int) -> tuple[Numbers, Numbers, Numbers]:
        """Of windows of so many hours: the overdispersion, its degrees of freedom, and the largest distance
        that the reference had from itself, in units of the deviation of independent rows.
        """
        found = [self._spread_of(length) for length in sorted({1, 2, hours}) if length <= hours]
        spread = np.max([one[0] for one in found], axis=0)
        return spread, found[0][1], np.max([one[2] for one in found], axis=0)

    def _spread_of(self, length: int) -> tuple[Numbers, Numbers, Numbers]:
        known = self._residuals.get(length)
        if known is None:
            known = self._residuals[length] = self._dispersion(length)
        return known

    def _dispersion(self, length: int) -> tuple[Numbers, Numbers, Numbers]:
        width = len(self.names)
        # What the other days say of each hour.
        sums = self._level_sums[self._kind] - self._smooth_sums
        of = self._level_of[self._kind] - self._smooth_of
        others = self._rows[self._kind] - self._of
        level = self._level(sums, of)
        usable = (of > 0) & (self._of > 0)
        number = np.where(usable, self._of, 0.0)
        apart = np.where(usable, self._sums - number * level, 0.0)
        variance = number * self._variance_of(level)
        apart, variance, number, others = (
            _blocks(one.reshape(-1, width), length) for one in (apart, variance, number, others)
        )
        full = number > 0
        variance = variance * (1.0 + number / np.maximum(others, 1.0))
        distance = np.where(full, np.abs(apart) / np.sqrt(np.maximum(variance, 1e-12)), 0.0)
        squares, blocks = (distance**2).sum(0), full.sum(0).astype(float)
        if blocks.max(initial=0.0) < _LEAST_BLOCKS:
            return np.ones(width), blocks + _POOL, np.zeros(width)
        # A series of few rows borrows from all of its kind.
        pool = np.ones(width)
        for kind in (True, False):
            mine = (self._is_mean == kind) & (blocks >= _LEAST_BLOCKS)
            if mine.any():
                pool[self._is_mean == kind] = np.median(squares[mine] / blocks[mine])
        pool = np.where(self._is_mean, np.where(blocks > 0, squares / np.maximum(blocks, 1), pool), pool)
        spread = np.maximum((squares + _POOL * pool) / (blocks + _POOL), 1.0)
        return spread, blocks + _POOL, distance.max(0, initial=0.0)


def _smooth(values: Numbers) -> Numbers:
    """With half of the hour before and half of the hour after."""
    found: Numbers = values + 0.5 * (np.roll(values, 1, axis=1) + np.roll(values, -1, axis=1))
    return found


def _blocks(values: Numbers, length: int) -> Numbers:
    """Sums of ``length`` rows each; what is left at the beginning goes with none."""
    whole = values[len(values) % length :]
    found: Numbers = whole.reshape(-1, length, values.shape[1]).sum(1)
    return found


def _binomial_tail(found: Numbers, of: Numbers, share: Numbers) -> Numbers:
    """The smaller tails of binomial distributions, for numbers that need not be whole."""
    from scipy.special import betainc

    upper = np.where(found > 0, betainc(np.maximum(found, 1e-9), of - found + 1.0, share), 1.0)
    lower = np.where(found < of, betainc(np.maximum(of - found, 1e-9), found + 1.0, 1.0 - share), 1.0)
    tail: Numbers = np.minimum(upper, lower)
    return tail
