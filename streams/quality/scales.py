"""Confidences of one meaning: those of several generations of a calibration, brought to the newest one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.core.calibration import Alternatives, ConfidenceScale, VersionCalibration, reported

K = TypeVar("K")
# The calibrations of each version, by generation.
Scales = Mapping[str, Mapping[int, VersionCalibration]]


def as_reported(
    given: GivenLabel, scales: Mapping[int, ConfidenceScale]
) -> tuple[float, Alternatives] | None:
    """The probabilities of the label and of the others, without names, as the model reported them; None
    if it reported none. ``scales``: the calibrations of its version, by generation.
    """
    if given.confidence is None or given.by_proxy:
        return None
    others = tuple(("", chance) for chance in given.others)
    return reported(given.confidence, given.confidence_raw, given.calibration, others, scales)


def on_newest(given: Mapping[K, GivenLabel], scales: Mapping[int, VersionCalibration]) -> dict[K, GivenLabel]:
    """The labels with the confidences that the newest calibration gives them, whichever they were stored
    with.
    """
    if not scales:
        return dict(given)
    newest = scales[max(scales)]
    generation = None if newest.method == "raw" else newest.generation
    found = {}
    for place, one in given.items():
        if (before := as_reported(one, scales)) is not None:
            confidence, _ = newest.apply(*before)
            one = one._replace(confidence=confidence, calibration=generation)
        found[place] = one
    return found
