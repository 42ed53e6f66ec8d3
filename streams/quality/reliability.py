"""Whether a confidence of 0.8 means that 0.8 of such labels are right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.quality.estimates import Floats, Sample, share
from streams.quality.resampling import resamples

BINS = 15


class ReliabilityBin(NamedTuple):
    """Rows of neighbouring confidence, ``low`` to ``high``: their mean confidence and their accuracy."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


class Calibration(NamedTuple):
    """``ece``: expected calibration error, the mean distance of accuracy and confidence over bins of equal
    count. Few rows make it too large; the bounds (95 %, bootstrap) are corrected for that. ``brier``: mean
    square of confidence less 1 for right and 0 for wrong labels. None without rows that have a confidence.
    """

    ece: float | None
    ece_low: float | None
    ece_high: float | None
    brier: float | None
    bins: Sequence[ReliabilityBin]


def reliability(sample: Sample, bins: int = BINS) -> Calibration:
    """Of the rows with a confidence, by their weights."""
    told = sample.where(~np.isnan(sample.confidence))
    if not len(told):
        return Calibration(None, None, None, None, [])
    told = told.where(np.argsort(told.confidence, kind="stable"))
    starts = _starts(len(told), bins)
    gaps = told.weight * (told.right - told.confidence)
    ece = float(_errors(gaps[None, :], told.weight[None, :], starts)[0])
    drawn = np.concatenate(
        [_errors(counts * gaps, counts * told.weight, starts) for counts in resamples(len(told))]
    )
    low, high = (float(one) for one in np.quantile(drawn, (0.025, 0.975)))
    brier = float(np.average((told.confidence - told.right) ** 2, weights=told.weight))
    return Calibration(
        ece,
        # The resampled errors exceed the error as it exceeds the true one: the distances are mirrored.
        max(0.0, min(ece, 2 * ece - high)),
        min(1.0, max(ece, 2 * ece - low)),
        brier,
        [
            _bin(told.where(np.arange(start, end)))
            for start, end in zip(starts, [*starts[1:], len(told)], strict=True)
        ],
    )


def _starts(rows: int, bins: int) -> NDArray[np.int64]:
    """Where bins of equal count begin; fewer bins than rows."""
    return np.unique(np.arange(min(bins, rows), dtype=np.int64) * rows // min(bins, rows))


def _errors(gaps: Floats, weight: Floats, starts: NDArray[np.int64]) -> Floats:
    """ECE of each line: the sum of the bins' absolute gaps over all weights."""
    found: Floats = np.abs(np.add.reduceat(gaps, starts, axis=1)).sum(axis=1) / weight.sum(axis=1)
    return found


def _bin(rows: Sample) -> ReliabilityBin:
    found = share(rows.right, rows.weight)
    return ReliabilityBin(
        float(rows.confidence[0]),
        float(rows.confidence[-1]),
        len(rows),
        float(np.average(rows.confidence, weights=rows.weight)),
        found.value or 0.0,
        found.low,
        found.high,
    )
