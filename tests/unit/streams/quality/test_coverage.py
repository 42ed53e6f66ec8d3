"""Risk and coverage, and the least confidence that keeps a promise."""

from __future__ import annotations

import numpy as np
import pytest

from streams.quality.coverage import coverage
from streams.quality.estimates import Judged, Sample


def _sample(confidences: list[float | None], right: list[bool]) -> Sample:
    return Sample.of(
        Judged("a", "a" if one else "b", 1.0, confidence)
        for confidence, one in zip(confidences, right, strict=True)
    )


def test_the_curve_counts_the_rows_above_each_threshold() -> None:
    found = coverage(_sample([0.9, 0.9, 0.5, None], [True, False, True, True]), 0.95)
    assert [(one.threshold, one.coverage) for one in found.curve] == [(0.9, 0.5), (0.5, 0.75)]
    assert [one.accuracy for one in found.curve] == pytest.approx([0.5, 2 / 3])
    assert found.least is None


def test_the_least_threshold_is_chosen_by_the_bound() -> None:
    confidences = [round(1 - number / 1_000, 4) for number in range(1_000)]
    right = [number < 500 or number % 3 != 0 for number in range(1_000)]
    found = coverage(_sample([*confidences], right), 0.95)
    assert found.least is not None
    assert found.least in found.curve
    assert len(found.curve) <= 101
    assert found.least.accuracy_low >= 0.95
    below = [one for one in found.curve if one.threshold < found.least.threshold]
    assert below
    assert all(one.accuracy_low < 0.95 for one in below)
    # The point estimate would reach down to a lower one.
    assert any(one.accuracy >= 0.95 for one in below)


def test_few_rows_promise_nothing() -> None:
    assert coverage(_sample([0.99] * 30, [True] * 30), 0.95).least is None
    assert coverage(_sample([0.99] * 60, [True] * 60), 0.95).least is not None


def test_the_promise_is_kept_and_found() -> None:
    """200 draws of 500 rows from 20,000, of an overconfident model."""
    random = np.random.default_rng(5)
    confidence = random.beta(4, 0.5, 20_000).round(6)
    right = random.random(20_000) < 0.35 + 0.63 * confidence**2
    order = np.argsort(-confidence)
    running = right[order].cumsum() / np.arange(1, 20_001)
    best = (np.flatnonzero(running >= 0.9).max() + 1) / 20_000
    kept = found = 0
    covers = []
    names = np.array(["a"] * 500, dtype=object)
    for _ in range(200):
        rows = random.choice(20_000, 500, replace=False)
        least = coverage(Sample(right[rows], np.ones(500), confidence[rows], names, names), 0.9).least
        if least is not None:
            found += 1
            above = confidence >= least.threshold
            kept += right[above].mean() >= 0.9
            covers.append(above.mean() / best)
    assert found >= 170
    assert kept / found >= 0.92
    assert np.mean(covers) >= 0.6
