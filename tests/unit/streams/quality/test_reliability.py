"""Calibration error, Brier score and the reliability bins."""

from __future__ import annotations

import numpy as np
import pytest

from streams.quality.estimates import Floats, Judged, Sample
from streams.quality.reliability import reliability


def _drawn(rows: int, seed: int, power: float) -> Sample:
    random = np.random.default_rng(seed)
    confidence: Floats = random.beta(5, 1, rows)
    names = np.array(["a"] * rows, dtype=object)
    return Sample(random.random(rows) < confidence**power, np.ones(rows), confidence, names, names)


def test_by_hand() -> None:
    sample = Sample.of(
        [
            Judged("a", "a", 1.0, 0.9),
            Judged("a", "b", 1.0, 0.8),
            Judged("a", "b", 2.0, 0.2),
            Judged("a", "a", 1.0, None),
        ]
    )
    found = reliability(sample, bins=2)
    # Bins: 0.2 | 0.8, 0.9. Gaps weighted: 2 * |0 - 0.2| and |0.5 - 0.85| * 2, of a weight of 4.
    assert found.ece == pytest.approx((0.4 + 0.7) / 4)
    assert found.brier == pytest.approx((0.01 + 0.64 + 2 * 0.04) / 4)
    assert [(one.rows, one.confidence, one.accuracy) for one in found.bins] == [
        (1, pytest.approx(0.2), 0.0),
        (2, pytest.approx(0.85), 0.5),
    ]


def test_bins_are_of_equal_count() -> None:
    found = reliability(_drawn(150, 1, 1.0))
    assert [one.rows for one in found.bins] == [10] * 15


@pytest.mark.parametrize("rows", [1, 2, 14, 16])
def test_few_rows_make_fewer_bins(rows: int) -> None:
    found = reliability(_drawn(rows, 1, 1.0))
    assert sum(one.rows for one in found.bins) == rows
    assert found.ece is not None


def test_an_overconfident_model_shows_and_a_calibrated_one_does_not() -> None:
    bad, good = reliability(_drawn(500, 2, 3.0)), reliability(_drawn(500, 2, 1.0))
    assert bad.ece_low is not None
    assert bad.ece_low > 0.1
    assert good.ece_low == pytest.approx(0.0, abs=0.02)
    for one in (bad, good):
        assert one.ece_low is not None
        assert one.ece is not None
        assert one.ece_high is not None
        assert one.ece_low <= one.ece <= one.ece_high


def test_rows_without_a_confidence_say_nothing() -> None:
    assert reliability(Sample.of([Judged("a", "a")])) == (None, None, None, None, [])
