"""Calibrations fitted to rows whose true probabilities are known."""

from __future__ import annotations

import numpy as np
import pytest

from streams.core.calibration import ConfidenceScale
from streams.quality.calibration import FEWEST_ROWS, LabelChance, fit


def rows(count: int, sharpness: float, seed: int = 1) -> list[LabelChance]:
    """Labels by logits that are ``sharpness`` times the true ones, of six labels."""
    drawn = np.random.default_rng(seed)
    logits = drawn.normal(0, 1.5, (count, 6))
    logits[:, 0] += 1.0
    true = np.exp(logits)
    true /= true.sum(axis=1, keepdims=True)
    told = np.exp(logits * sharpness)
    told /= told.sum(axis=1, keepdims=True)
    found = []
    for chances, said in zip(true, told, strict=True):
        gold = drawn.choice(6, p=chances)
        order = np.argsort(-said)
        first, *others = (float(said[n]) for n in order)
        found.append(LabelChance(first, others, bool(gold == order[0])))
    return found


def test_logits_times_three_are_found_and_taken_back() -> None:
    found = fit(rows(600, 3.0))
    assert found.scale.method == "temperature"
    assert 2.4 < found.scale.temperature < 3.6
    assert found.log_loss < found.log_loss_raw
    assert found.rows == 600


def test_many_rows_are_fitted_by_steps_that_only_rise() -> None:
    fitted, unseen = rows(1500, 3.0), rows(4000, 3.0, seed=2)
    scale = fit(fitted).scale
    assert scale.method == "isotonic"
    points = np.array(scale.points)
    assert (np.diff(points, axis=0) > 0).all()
    assert 0 < points[0, 1] < points[-1, 1] < 1
    # 0.9 means 0.9, on rows that were not fitted on.
    calibrated = np.array([scale.apply(one.confidence, ())[0] for one in unseen])
    right = np.array([one.right for one in unseen])
    high = calibrated > 0.85
    assert right[high].mean() == pytest.approx(calibrated[high].mean(), abs=0.03)


@pytest.mark.parametrize("count", [400, 1200])
def test_confidence_that_is_right_stays_as_it_is(count: int) -> None:
    found = fit(rows(count, 1.0))
    assert found.scale == ConfidenceScale()
    assert found.log_loss >= found.log_loss_raw


def test_weights_are_rows() -> None:
    sure = [LabelChance(0.9, [0.05], n % 10 < 6, 1.0) for n in range(300)]
    heavy = [LabelChance(0.9, [0.05], n % 10 < 9, 1000.0) for n in range(300)]
    assert fit(sure).scale.apply(0.9, (("b", 0.05),))[0] == pytest.approx(0.6, abs=0.02)
    assert fit(sure + heavy).scale.apply(0.9, (("b", 0.05),))[0] == pytest.approx(0.9, abs=0.02)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=f"199 of {FEWEST_ROWS}"):
        fit(rows(199, 3.0))
