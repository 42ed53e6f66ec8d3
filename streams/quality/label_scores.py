"""Precision, recall and F1 of each label, their mean, and confusions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.ports.review import NO_LABEL
from streams.quality.estimates import Floats, Interval, Sample, share
from streams.quality.resampling import resamples


@dataclass(frozen=True)
class LabelFigures:
    """``support``: rows whose right label it is; ``given``: rows that got it; ``right``: both.

    ``precision``: the share of rows with this label that are right; ``recall``: the share of rows that should
    have it and have it. Both and ``f1`` are weighted; without a row their value is None.
    """

    label: str
    support: int
    given: int
    right: int
    precision: Interval
    recall: Interval
    f1: float | None


class MacroF1(NamedTuple):
    """The mean F1 of the labels that are right somewhere, and its 95 % bounds (bootstrap over rows)."""

    value: float | None
    low: float | None
    high: float | None


def label_scores(sample: Sample) -> list[LabelFigures]:
    """Of every label that is right or given somewhere, by name."""
    sums = _Sums(sample)
    f1 = sums.f1(np.ones((1, len(sample))))[0]
    found = []
    for number, name in enumerate(sums.names):
        gold, given = sums.gold[:, number] > 0, sums.given[:, number] > 0
        recall = share(sample.right[gold], sample.weight[gold])
        precision = share(sample.right[given], sample.weight[given])
        found.append(
            LabelFigures(
                name,
                int(gold.sum()),
                int(given.sum()),
                int((gold & given).sum()),
                precision,
                recall,
                float(f1[number]),
            )
        )
    return found


def macro_f1(sample: Sample) -> MacroF1:
    """Weighted. In a draw where a label is not right anywhere, the mean is that of the others."""
    sums = _Sums(sample)
    real = sums.gold.any(axis=0)
    if not real.any():
        return MacroF1(None, None, None)
    value = float(sums.f1(np.ones((1, len(sample))))[0][real].mean())
    means = []
    for counts in resamples(len(sample)):
        drawn = (counts @ sums.gold)[:, real] > 0
        f1 = np.where(drawn, sums.f1(counts)[:, real], 0.0)
        means.append(f1.sum(axis=1) / np.maximum(drawn.sum(axis=1), 1))
    low, high = np.quantile(np.concatenate(means), (0.025, 0.975))
    return MacroF1(value, float(low), float(high))


def confusion(sample: Sample) -> Mapping[str, Mapping[str, int]]:
    """Right label -> given label -> rows; `no-label` where none is right."""
    found: dict[str, Counter[str]] = {}
    for gold, given in zip(sample.gold, sample.given, strict=True):
        found.setdefault(NO_LABEL if gold is None else gold, Counter())[given] += 1
    return {name: dict(found[name].most_common()) for name in sorted(found)}


class _Sums:
    """Weights by row and label: where a label is right, where it is given, where it is both."""

    def __init__(self, sample: Sample) -> None:
        golds = [one for one in sample.gold if one is not None]
        self.names: Sequence[str] = sorted({*golds, *sample.given})
        place = {name: number for number, name in enumerate(self.names)}
        self.gold = self._marked(place, sample.gold, sample.weight)
        self.given = self._marked(place, sample.given, sample.weight)
        self.right = self.gold * sample.right[:, None]

    @staticmethod
    def _marked(place: Mapping[str, int], labels: NDArray[np.object_], weight: Floats) -> Floats:
        found = np.zeros((len(labels), len(place)))
        for row, label in enumerate(labels):
            if label is not None:
                found[row, place[label]] = weight[row]
        return found

    def f1(self, counts: Floats) -> Floats:
        """By draw and label; 0 where the label is neither right nor given."""
        both = counts @ self.gold + counts @ self.given
        found: Floats = 2 * (counts @ self.right) / np.where(both > 0, both, 1.0)
        return found
