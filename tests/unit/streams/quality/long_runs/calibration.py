"""How well a calibration holds on rows that it has not seen: `make soak-calibration FILE=texts.csv`.

Of the texts that an overconfident classifier was not taught 500 are drawn and answered by people, with the
unsure ones besides, and fitted on as `labelstream versions calibrate` does. The expected calibration error of
all others is measured, again and again, in bins of equal count and of equal width: the larger one counts.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from streams.core.calibration import VersionCalibration
from streams.quality.calibration import fit
from streams.quality.gate import judged
from streams.quality.reliability import BINS
from streams.quality.scales import on_newest
from streams.versions.calibrate import label_chances
from tests.unit.streams.quality.long_runs.estimates import UNSURE_ROWS, equal_draw
from tests.unit.streams.quality.long_runs.overconfident import Overconfident, parted, read_texts
from tests.unit.streams.quality.long_runs.reviewed_weeks import Unseen, answers, labelled, place

TAUGHT = 2_200
MOST_ECE, LEAST_SHARE = 0.05, 0.95


def calibrated(
    unseen: Unseen, order: NDArray[np.int64], drawn: int, random: np.random.Generator
) -> tuple[str, list[float]]:
    """The method, and the confidences of the texts behind the first ``drawn`` of ``order``."""
    gold, label = unseen.gold[order], unseen.label[order]
    unsure = np.argsort(unseen.confidence[order], kind="stable")[:UNSURE_ROWS].tolist()
    rows = judged(answers(equal_draw(len(order), drawn), unsure, gold, label, random))
    given = {place(row): unseen.given[text] for row, text in enumerate(order.tolist())}
    found = fit(label_chances(rows, given, {}))
    one = VersionCalibration(
        **found.scale.model_dump(),
        version="v1",
        generation=1,
        rows=found.rows,
        log_loss=found.log_loss,
        log_loss_raw=found.log_loss_raw,
    )
    now = on_newest(given, {1: one})
    return one.method, [now[place(row)].confidence or 0.0 for row in range(drawn, len(order))]


def errors(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[float, float]:
    """Expected calibration errors over 15 bins, of equal count and of equal width."""
    gaps = right - confidence
    by_count = np.array_split(gaps[np.argsort(confidence, kind="stable")], BINS)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    by_width = np.bincount(bins, weights=gaps, minlength=BINS)
    return (
        float(sum(abs(some.sum()) for some in by_count)) / len(gaps),
        float(np.abs(by_width).sum()) / len(gaps),
    )


def main() -> int:
    """Exit code 1 if too many repetitions are off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario or label")
    parser.add_argument("--column")
    parser.add_argument("--taught", type=int, default=TAUGHT)
    parser.add_argument("--drawn", type=int, default=500)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    taught, others = parted(read_texts(given.file, given.column), given.taught, given.seed)
    unseen = labelled(Overconfident(taught), others)
    random = np.random.default_rng(given.seed)
    found, raw, kept = [], [], 0
    for _ in range(given.times):
        order = random.permutation(len(unseen))
        method, confidences = calibrated(unseen, order, given.drawn, random)
        kept += method == "raw"
        rest = order[given.drawn :]
        found.append(errors(np.array(confidences), unseen.right[rest]))
        raw.append(errors(unseen.confidence[rest], unseen.right[rest]))
    worst = np.array(found).max(axis=1)
    share = float(np.mean(worst <= MOST_ECE))
    (count, width), (raw_count, raw_width) = np.mean(found, axis=0), np.mean(raw, axis=0)
    print(
        f"accuracy {unseen.right.mean():.3f}, confidence {unseen.confidence.mean():.3f}; {given.drawn} "
        f"drawn, {len(unseen) - given.drawn} others\n"
        f"ECE in bins of equal count {count:.4f} (raw {raw_count:.4f}), "
        f"of equal width {width:.4f} (raw {raw_width:.4f}); the larger: 95th percentile "
        f"{np.quantile(worst, 0.95):.4f}, at most {MOST_ECE} in {share:.3f} of {given.times}, accepted from "
        f"{LEAST_SHARE}; left raw in {kept}"
    )
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
