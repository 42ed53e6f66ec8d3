"""How well a calibration holds on rows that it has not seen; `make soak-calibration`.

The labels are those of a real classifier, taught on a part of real texts, with its logits times 3: it is far
too sure of itself. Of the other texts 500 are drawn and fitted on, and the expected calibration error of the
rest is measured, again and again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

from streams.quality.calibration import LabelChance, fit
from streams.quality.reliability import BINS

TAUGHT = 2200
MOST_ECE, LEAST_SHARE = 0.05, 0.95


def labelled(path: Path, column: str, overconfident: float, seed: int) -> list[LabelChance]:
    """The texts of ``path`` that the classifier was not taught, as it labels them: with five alternatives."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    with path.open(encoding="utf-8", newline="") as lines:
        rows = [(row["text"], row[column]) for row in csv.DictReader(lines)]
    order = np.random.default_rng(seed).permutation(len(rows))
    taught, others = ([rows[n] for n in some] for some in (order[:TAUGHT], order[TAUGHT:]))
    words = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=20, max_iter=300)
    model.fit(words.fit_transform([text for text, _ in taught]), [label for _, label in taught])
    logits = model.decision_function(words.transform([text for text, _ in others])) * overconfident
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    found = []
    for line, (_, label) in zip(chances, others, strict=True):
        best = np.argsort(-line)[:6]
        first, *rest = (float(line[n]) for n in best)
        found.append(
            LabelChance(first, [one for one in rest if one > 1e-6], model.classes_[best[0]] == label)
        )
    return found


def ece(confidences: list[float], rows: list[LabelChance]) -> float:
    """Expected calibration error over 15 bins of equal count."""
    order = np.argsort(confidences, kind="stable")
    gaps = np.array([one.right for one in rows], dtype=float)[order] - np.array(confidences)[order]
    return float(sum(abs(some.sum()) for some in np.array_split(gaps, BINS)) / len(rows))


def main() -> int:
    """Exit code 1 if too many repetitions are off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="CSV with the columns text and scenario or label")
    parser.add_argument("--column", default="scenario")
    parser.add_argument("--drawn", type=int, default=500)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rows = labelled(given.file, given.column, 3.0, given.seed)
    drawn = np.random.default_rng(given.seed)
    found, raw, kept = [], [], 0
    for _ in range(given.times):
        order = drawn.permutation(len(rows))
        fitted, unseen = ([rows[n] for n in some] for some in (order[: given.drawn], order[given.drawn :]))
        scale = fit(fitted).scale
        kept += scale.method == "raw"
        calibrated = [
            scale.apply(one.confidence, tuple(("", chance) for chance in one.others))[0] for one in unseen
        ]
        found.append(ece(calibrated, unseen))
        raw.append(ece([one.confidence for one in unseen], unseen))
    share = float(np.mean(np.array(found) <= MOST_ECE))
    right = float(np.mean([one.right for one in rows]))
    print(
        f"accuracy {right:.3f}; {given.drawn} drawn, {len(rows) - given.drawn} unseen: ECE mean "
        f"{np.mean(found):.4f}, 95th percentile {np.quantile(found, 0.95):.4f}, at most {MOST_ECE} in "
        f"{share:.3f} of {given.times}; raw {np.mean(raw):.4f}; left raw in {kept}"
    )
    return 0 if share >= LEAST_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
