"""Simulated traffic for the long runs: texts of a file, drawn by Zipf's law, with a day and a week.

A row is drawn from texts whose frequency falls with their rank. Both the rate and the labels' shares swing
with the hour of the day, and weekends are different. Texts come in bursts: a row is followed by copies of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from streams.drift.counts import QUARTER_SECONDS, QUARTERS
from tests.unit.streams.quality.long_runs.overconfident import Text

MONDAY = 1_772_409_600 // QUARTER_SECONDS  # 2026-03-02T00:00Z, in quarters of hours since 1970


@dataclass
class Traffic:
    """A source of rows. ``texts``: with the labels that the model gives them. ``rate``: rows a second.
    ``swing``: of the rate and of the labels' shares, over a day. ``burst``: mean number of equal rows.
    """

    texts: Sequence[Text]
    random: np.random.Generator
    rate: float = 1.0
    swing: float = 0.2
    zipf: float = 1.0
    burst: float = 1.0
    weekend: float = 0.0
    topic: Sequence[Text] = ()
    topic_share: float = 0.0
    halved: str = ""
    kept: float = 0.5
    relabelled: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        order = self.random.permutation(len(self.texts))
        self.texts = [self.texts[place] for place in order]
        self.labels = sorted({one.label for one in self.texts})
        self._codes = np.array([self.labels.index(one.label) for one in self.texts])
        ranks = np.arange(1, len(self.texts) + 1)
        self._weights = ranks**-self.zipf / (ranks**-self.zipf).sum()
        # Some labels are of the day, some of the night, some of the weekend.
        self._phase = self.random.uniform(0, 2 * math.pi, len(self.labels))
        self._weekly = self.random.choice([-1.0, 0.0, 1.0], len(self.labels))

    def share(self, label: str) -> float:
        """The mean share of ``label``."""
        return float(self._weights[self._codes == self.labels.index(label)].sum())

    def rows(self, quarter: int) -> list[tuple[Text, int]]:
        """The rows of a quarter of an hour: texts with their numbers."""
        hour = (quarter % (24 * QUARTERS)) / QUARTERS
        turn = 2 * math.pi * hour / 24
        weekend = ((quarter // (24 * QUARTERS) + 3) % 7) >= 5
        rate = self.rate * (1 + self.swing * math.sin(turn)) * (1 - self.weekend * weekend)
        tilt = 1 + self.swing * np.sin(turn + self._phase) + self.weekend * weekend * self._weekly
        weights = self._weights * tilt[self._codes]
        count = int(self.random.poisson(rate * QUARTER_SECONDS / self.burst))
        drawn = self.random.multinomial(count, weights / weights.sum())
        if self.burst > 1.0:
            drawn = np.array([int(self.random.poisson(self.burst, n).sum()) if n else 0 for n in drawn])
        if self.halved:
            mine = self._codes == self.labels.index(self.halved)
            drawn[mine] = self.random.binomial(drawn[mine], self.kept)
        found = [(self.texts[place], int(drawn[place])) for place in np.flatnonzero(drawn)]
        if self.topic_share:
            rows = sum(n for _, n in found)
            new = int(self.random.binomial(rows, self.topic_share / (1 - self.topic_share)))
            ranks = np.arange(1, len(self.topic) + 1) ** -self.zipf
            of: NDArray[np.int64] = self.random.multinomial(new, ranks / ranks.sum())
            found += [(self.topic[place], int(of[place])) for place in np.flatnonzero(of)]
        return found


def quarters(days: float, start: int = MONDAY) -> Iterator[int]:
    """The numbers of the quarters of so many days."""
    yield from range(start, start + round(days * 24 * QUARTERS))
