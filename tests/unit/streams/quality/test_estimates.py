"""The share of right labels from drawn rows."""

from __future__ import annotations

import numpy as np
import pytest

from streams.quality.estimates import Judged, Sample, accuracy, rows_missing, share


def test_equal_weights_give_wilsons_interval() -> None:
    rows = [Judged("a", "a")] * 85 + [Judged("a", "b")] * 15
    found = accuracy(rows)
    assert found.value == pytest.approx(0.85)
    # By hand: (0.85 + 1.9208/100 -+ 1.96 sqrt(0.85*0.15/100 + 0.9604/10000)) / 1.038415
    assert (found.low, found.high) == pytest.approx((0.7672, 0.9069), abs=1e-4)
    assert found.effective == pytest.approx(100)


def test_a_row_counts_one_by_its_probability() -> None:
    rows = [Judged("a", "a", weight=10.0), Judged("a", "a", weight=1.0), Judged("a", "b", weight=9.0)]
    assert accuracy(rows).value == pytest.approx(11 / 20)


def test_unequal_weights_widen_the_interval() -> None:
    flags = np.arange(200) % 10 != 0
    equal = share(flags, np.ones(200))
    unequal = share(flags, np.where(np.arange(200) % 20 < 10, 9.0, 1.0))
    assert unequal.value == pytest.approx(equal.value)
    assert unequal.high - unequal.low > 1.2 * (equal.high - equal.low)
    assert unequal.effective < 140


def test_no_rows_say_nothing() -> None:
    assert accuracy([]) == (None, 0.0, 1.0, 0.0)
    assert rows_missing(accuracy([]), 0) is None


def test_all_right_is_not_certain() -> None:
    found = accuracy([Judged("a", "a")] * 20)
    assert found.value == 1.0
    assert found.high == 1.0
    assert found.low == pytest.approx(0.8389, abs=1e-4)


def test_no_label_fits_makes_every_label_wrong() -> None:
    assert not Judged(None, "other").right


@pytest.mark.parametrize(("right", "rows", "missing"), [(850, 1000, 224), (0, 10, 84), (9500, 10000, 0)])
def test_it_says_how_many_rows_are_missing(right: int, rows: int, missing: int) -> None:
    flags = np.arange(rows) < right
    found = share(flags, np.ones(rows))
    told = rows_missing(found, rows)
    assert told == pytest.approx(missing, abs=15)
    assert told is not None
    if told:
        # With so many more of the same kind the interval is narrow enough, and with fewer it is not.
        after = share(np.arange(rows + told) < round((rows + told) * right / rows), np.ones(rows + told))
        assert (after.high - after.low) / 2 == pytest.approx(0.02, abs=4e-4)


def test_the_interval_holds_the_truth_though_unsure_rows_are_reviewed_too() -> None:
    """300 weeks: 2 % of the rows drawn, more of rare labels, and errors where labels are rare or unsure."""
    random = np.random.default_rng(11)
    held = biased = 0
    for _ in range(300):
        label = random.choice(4, 8_000, p=[0.6, 0.3, 0.08, 0.02])
        confidence = random.random(8_000) ** 0.3
        right = random.random(8_000) < np.array([0.95, 0.9, 0.8, 0.6])[label] * (0.6 + 0.4 * confidence)
        probability = np.maximum(0.02, 30 / np.bincount(label, minlength=4))[label]
        drawn = random.random(8_000) < probability
        found = share(right[drawn], 1 / probability[drawn])
        held += found.low <= right.mean() <= found.high
        reviewed = drawn | (confidence < np.quantile(confidence, 0.03))
        naive = share(right[reviewed], np.ones(int(reviewed.sum())))
        biased += naive.low <= right.mean() <= naive.high
    assert 0.92 <= held / 300 <= 0.98
    assert biased / 300 < 0.3


def test_a_sample_keeps_the_rows_of_a_mask() -> None:
    sample = Sample.of([Judged("a", "a", 2.0, 0.5), Judged(None, "b")])
    rest = sample.where(~np.isnan(sample.confidence))
    assert (rest.gold.tolist(), rest.weight.tolist()) == (["a"], [2.0])
