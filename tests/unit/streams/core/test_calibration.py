"""A calibration applied to what a model reported, and undone."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from streams.core.calibration import ConfidenceScale, VersionCalibration
from streams.core.topics import Topics

COOLED = ConfidenceScale(method="temperature", temperature=3)
STEPS = ConfidenceScale(method="isotonic", points=((0.2, 0.1), (0.6, 0.5), (0.9, 0.8)))


def test_a_temperature_takes_the_logits_down_to_where_they_were() -> None:
    logits = [2.0, 1.0, 0.5, -1.0]

    def softmax(factor: float) -> list[float]:
        powers = [math.exp(factor * one) for one in logits]
        return [one / sum(powers) for one in powers]

    first, *others = softmax(3)
    confidence, rest = COOLED.apply(first, tuple((str(n), one) for n, one in enumerate(others)))
    assert [confidence, *(chance for _, chance in rest)] == pytest.approx(softmax(1))
    assert [name for name, _ in rest] == ["0", "1", "2"]


def test_what_was_not_reported_is_one_more_label() -> None:
    confidence, others = ConfidenceScale(method="temperature", temperature=2).apply(0.81, (("b", 0.09),))
    # 0.9, 0.3, and the root of 0.1.
    assert confidence == pytest.approx(0.9 / (1.2 + math.sqrt(0.1)))
    assert others == (("b", pytest.approx(0.3 / (1.2 + math.sqrt(0.1)))),)
    assert COOLED.apply(1.0, ()) == (1.0, ())
    assert COOLED.apply(0.0, ()) == (0.0, ())


@pytest.mark.parametrize(
    ("raw", "calibrated"), [(0.1, 0.1), (0.2, 0.1), (0.4, 0.3), (0.6, 0.5), (0.75, 0.65), (1.0, 0.8)]
)
def test_isotonic_points_are_joined_by_lines(raw: float, calibrated: float) -> None:
    assert STEPS.apply(raw, ())[0] == pytest.approx(calibrated)


def test_the_others_share_what_the_label_leaves() -> None:
    confidence, others = STEPS.apply(0.6, (("b", 0.3), ("c", 0.1)))
    assert confidence == 0.5
    assert [chance for _, chance in others] == pytest.approx([0.375, 0.125])


def test_no_other_label_gets_more_than_the_label_itself() -> None:
    steep = ConfidenceScale(method="isotonic", points=((0.3, 0.1), (0.5, 0.2), (0.9, 0.8)))
    confidence, others = steep.apply(0.5, (("b", 0.4), ("c", 0.1)))
    assert confidence == pytest.approx(0.2)
    assert [chance for _, chance in others] == pytest.approx([0.2, 0.05])
    # One that was likelier before stays so, by as much.
    _, ((_, likelier),) = steep.apply(0.5, (("b", 0.505),))
    assert likelier == pytest.approx(0.2 * 0.505 / 0.5)


@pytest.mark.parametrize("scale", [COOLED, STEPS, ConfidenceScale()])
def test_what_was_reported_can_be_had_back(scale: ConfidenceScale) -> None:
    others = (("b", 0.2), ("c", 0.05), ("d", 1e-6))
    calibrated, after = scale.apply(0.7, others)
    back = scale.undo(0.7, calibrated, after)
    assert [name for name, _ in back] == ["b", "c", "d"]
    assert [chance for _, chance in back] == pytest.approx([chance for _, chance in others])


def test_rounded_probabilities_that_sum_to_more_stay_probabilities() -> None:
    steep = ConfidenceScale(method="isotonic", points=((0.5, 0.4), (0.995, 0.6)))
    confidence, others = steep.apply(0.995, (("b", 0.0149),))
    assert confidence + sum(chance for _, chance in others) <= 1.0
    assert steep.undo(1.0, 0.6, (("b", 0.4),)) == (("b", 0.4),)


@pytest.mark.parametrize("points", [(), ((0.5, 0.4), (0.5, 0.6)), ((0.6, 0.4), (0.5, 0.6))])
def test_what_cannot_be_applied_is_no_calibration(points: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ValidationError, match="without points in order"):
        ConfidenceScale(method="isotonic", points=points)


def test_the_message_names_version_and_generation() -> None:
    found = VersionCalibration(
        version="v1", generation=2, rows=500, log_loss=0.4, log_loss_raw=0.9, method="isotonic",
        points=((0.1, 0.2), (0.9, 0.7)),
    )  # fmt: skip
    message = found.message(Topics("esk"))
    assert message.topic == "esk.versions"
    assert (message.key or b"").startswith(b"calibration/v1/2/")
    assert found.belongs_to((message.key or b"").decode())
    assert not found.belongs_to("calibration/v1/21")
    assert VersionCalibration.model_validate_json(message.value or b"") == found
