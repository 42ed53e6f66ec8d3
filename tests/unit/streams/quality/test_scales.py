"""Confidences of several generations, brought to one."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.core.calibration import VersionCalibration
from streams.quality.scales import on_newest

AT = datetime(2026, 3, 1, tzinfo=UTC)


def scale(generation: int, **how: object) -> VersionCalibration:
    told = {"version": "v1", "generation": generation, "rows": 1, "log_loss": 0.0, "log_loss_raw": 1.0}
    return VersionCalibration.model_validate(told | how)


def given(confidence: float | None, raw: float | None, generation: int | None, *others: float) -> GivenLabel:
    return GivenLabel(AT, "a", confidence, None, raw, generation, others)


def test_all_are_as_the_newest_generation_makes_them() -> None:
    first, second = (
        scale(1, method="temperature", temperature=2.0),
        scale(2, method="temperature", temperature=3.0),
    )
    before = 0.8, (("b", 0.15), ("c", 0.05))
    confidence, others = first.apply(*before)
    labels = {
        "never calibrated": given(0.8, 0.8, None, 0.15, 0.05),
        "of an older release": given(0.8, None, None, 0.15, 0.05),
        "of the first": given(confidence, 0.8, 1, *(chance for _, chance in others)),
        "without confidence": given(None, None, None),
    }
    labels["of the proxy, which no model reported"] = given(0.7, None, None)._replace(by_proxy=True)
    wanted, _ = second.apply(*before)
    found = on_newest(labels, {2: second, 1: first})
    assert [one.confidence for one in found.values()] == [*[pytest.approx(wanted)] * 3, None, 0.7]
    assert [one.calibration for one in found.values()] == [2, 2, 2, None, None]


def test_where_the_newest_leaves_them_as_reported_they_are_that_again() -> None:
    labels = {"calibrated": given(0.5, 0.9, 1, 0.5)}
    (found,) = on_newest(labels, {1: scale(1, method="temperature", temperature=5.0), 2: scale(2)}).values()
    assert (found.confidence, found.calibration) == (0.9, None)


def test_without_calibrations_they_stay() -> None:
    labels = {"calibrated": given(0.5, 0.9, 1, 0.5)}
    assert on_newest(labels, {}) == labels
