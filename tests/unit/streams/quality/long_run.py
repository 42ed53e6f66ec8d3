"""The estimates on labels of a real classifier: `make soak-quality FILE=texts.csv`.

A classifier of the letters in the texts is taught on a part of the file; its logits are tripled, so that it
is overconfident. Texts that it has not seen are the rows, each many times, as a week of traffic. The right
answers are known there, so that every estimate can be compared with the truth.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from streams.quality.coverage import coverage
from streams.quality.estimates import Sample, share
from streams.quality.label_scores import macro_f1
from streams.quality.reliability import reliability

TAUGHT, LOGITS = 2_500, 3.0
WEEK_ROWS = 20_000


def classify(texts: Sequence[str], labels: Sequence[str]) -> Sample:
    """Labels and confidences of texts that the classifier has not seen, each with weight 1."""
    order = np.random.default_rng(0).permutation(len(texts))
    taught, unseen = order[:TAUGHT], order[TAUGHT:]
    features = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=10.0, max_iter=300).fit(
        features.fit_transform([texts[row] for row in taught]), [labels[row] for row in taught]
    )
    logits = LOGITS * model.decision_function(features.transform([texts[row] for row in unseen]))
    chances = np.exp(logits - logits.max(axis=1, keepdims=True))
    chances /= chances.sum(axis=1, keepdims=True)
    given = np.array(model.classes_[chances.argmax(axis=1)], dtype=object)
    gold = np.array([labels[row] for row in unseen], dtype=object)
    return Sample(gold == given, np.ones(len(unseen)), chances.max(axis=1), gold, given)


def weeks(
    unseen: Sample, count: int, share_drawn: float, per_label: int, random: np.random.Generator
) -> dict[str, Any]:
    """In how many of ``count`` weeks the interval holds the week's true accuracy.

    ``share_drawn`` of the rows are drawn, and ``per_label`` more of each given label; the 200 least sure rows
    are reviewed besides. ``biased``: the same of all reviewed rows without weights.
    """
    held = biased = 0
    drawn_rows = width = 0.0
    for _ in range(count):
        week = unseen.where(random.integers(0, len(unseen), WEEK_ROWS))
        counts = {name: int((week.given == name).sum()) for name in set(week.given)}
        probability = np.maximum(
            share_drawn, np.array([min(1.0, per_label / counts[name]) for name in week.given])
        )
        drawn = random.random(WEEK_ROWS) < probability
        found = share(week.right[drawn], 1 / probability[drawn])
        true = float(week.right.mean())
        held += found.low <= true <= found.high
        width += (found.high - found.low) / 2
        drawn_rows += drawn.sum()
        reviewed = drawn.copy()
        reviewed[np.argsort(week.confidence)[:200]] = True
        naive = share(week.right[reviewed], np.ones(int(reviewed.sum())))
        biased += naive.low <= true <= naive.high
    return {
        "weeks": count,
        "drawn_per_week": drawn_rows / count,
        "held": held / count,
        "held_if_biased": biased / count,
        "half_width": width / count,
    }


def thresholds(
    unseen: Sample, count: int, rows: int, wanted: float, random: np.random.Generator
) -> dict[str, Any]:
    """How often a least confidence is found in ``rows`` drawn rows, and keeps its promise on all of them."""
    order = np.argsort(-unseen.confidence, kind="stable")
    running = unseen.right[order].cumsum() / np.arange(1, len(unseen) + 1)
    best = (int(np.flatnonzero(running >= wanted).max()) + 1) / len(unseen)
    covers: list[float] = []
    kept = 0
    for _ in range(count):
        found = coverage(unseen.where(random.integers(0, len(unseen), rows)), wanted).least
        if found is not None:
            above = unseen.confidence >= found.threshold
            kept += bool(unseen.right[above].mean() >= wanted)
            covers.append(float(above.mean()) / best)
    return {
        "repetitions": count,
        "rows": rows,
        "found": len(covers) / count,
        "kept_of_found": kept / max(1, len(covers)),
        "best_coverage": best,
        "coverage_of_best": float(np.mean(covers)) if covers else None,
        "coverage_of_best_at_5_percent": float(np.quantile(covers, 0.05)) if covers else None,
    }


def intervals(unseen: Sample, count: int, rows: int, random: np.random.Generator) -> dict[str, Any]:
    """How often the intervals of macro F1 and ECE from ``rows`` drawn rows hold those of all rows."""
    f1, ece = macro_f1(unseen).value or 0.0, reliability(unseen).ece or 0.0
    held = {"macro_f1": 0, "ece": 0}
    for _ in range(count):
        drawn = unseen.where(random.integers(0, len(unseen), rows))
        means, found = macro_f1(drawn), reliability(drawn)
        held["macro_f1"] += (means.low or 0.0) <= f1 <= (means.high or 0.0)
        held["ece"] += (found.ece_low or 0.0) <= ece <= (found.ece_high or 0.0)
    return {"repetitions": count, "rows": rows, "ece": ece, "macro_f1": f1} | {
        f"{name}_held": one / count for name, one in held.items()
    }


def main() -> None:
    """Prints one JSON object; exit code 1 if a promise is not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a CSV file with texts and labels")
    parser.add_argument("--label", default="scenario", help="its column of labels")
    parser.add_argument("--weeks", type=int, default=2_000)
    parser.add_argument("--repetitions", type=int, default=200)
    asked = parser.parse_args()
    with asked.data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    unseen = classify([row["text"] for row in rows], [row[asked.label] for row in rows])
    random = np.random.default_rng(2_026)
    uniform = weeks(unseen, asked.weeks, 0.02, 0, random)
    by_label = weeks(unseen, asked.weeks, 0.01, 20, random)
    least = thresholds(unseen, asked.repetitions, 500, 0.95, random)
    told = {
        "unseen": len(unseen),
        "accuracy": float(unseen.right.mean()),
        "confidence": float(unseen.confidence.mean()),
        "uniform": uniform,
        "more_of_rare_labels": by_label,
        "least_confidence": least,
        "intervals": intervals(unseen, asked.repetitions, 500, random),
    }
    print(json.dumps(told, indent=1))
    kept = (
        all(0.935 <= one["held"] <= 0.965 for one in (uniform, by_label))
        and least["kept_of_found"] >= 0.92
        and least["found"] >= 0.85
        and least["coverage_of_best"] >= 0.6
    )
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
