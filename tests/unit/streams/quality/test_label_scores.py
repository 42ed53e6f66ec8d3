"""Precision, recall, F1 and confusions of labels."""

from __future__ import annotations

import numpy as np
import pytest

from streams.quality.estimates import Judged, Sample
from streams.quality.label_scores import confusion, label_scores, macro_f1
from streams.quality.resampling import resamples


def _small() -> Sample:
    return Sample.of(
        [
            Judged("a", "a", 1.0),
            Judged("a", "b", 3.0),
            Judged("b", "b", 2.0),
            Judged(None, "b", 4.0),
        ]
    )


def test_by_hand() -> None:
    a, b = label_scores(_small())
    assert (a.label, a.support, a.given, a.right) == ("a", 2, 1, 1)
    assert (a.precision.value, a.recall.value) == (1.0, pytest.approx(1 / 4))
    assert (b.label, b.support, b.given, b.right) == ("b", 1, 3, 1)
    assert (b.precision.value, b.recall.value) == (pytest.approx(2 / 9), 1.0)
    assert a.f1 == pytest.approx(2 * 1 / (4 + 1))
    assert b.f1 == pytest.approx(2 * 2 / (2 + 9))
    assert macro_f1(_small()).value == pytest.approx((2 / 5 + 4 / 11) / 2)
    assert confusion(_small()) == {"a": {"a": 1, "b": 1}, "b": {"b": 1}, "no-label": {"b": 1}}


def test_a_label_that_is_never_right_is_no_part_of_the_mean() -> None:
    sample = Sample.of([Judged("a", "a"), Judged("a", "c")])
    assert [one.label for one in label_scores(sample)] == ["a", "c"]
    assert label_scores(sample)[1].recall.value is None
    assert macro_f1(sample).value == pytest.approx(2 / 3)


def test_the_interval_of_the_mean_holds_the_true_one() -> None:
    random = np.random.default_rng(3)
    labels = np.array(["a", "b", "c"], dtype=object)
    gold = labels[random.choice(3, 20_000, p=[0.5, 0.3, 0.2])]
    given = np.where(random.random(20_000) < 0.8, gold, labels[random.integers(0, 3, 20_000)])
    whole = Sample(gold == given, np.ones(20_000), np.ones(20_000), gold, given)
    true = np.mean([one.f1 for one in label_scores(whole)])
    held = 0
    for _ in range(20):
        found = macro_f1(whole.where(random.choice(20_000, 400, replace=False)))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= true <= found.high
    assert held >= 17


def test_resamples_keep_the_number_of_rows_and_their_seed() -> None:
    first, again = [np.concatenate(list(resamples(50))) for _ in range(2)]
    assert first.shape == (1000, 50)
    assert (first.sum(axis=1) == 50).all()
    assert (first == again).all()
    assert sum(len(counts) for counts in resamples(10_000)) == 500
