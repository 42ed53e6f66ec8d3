"""Whether something new is found: `make soak-discover FILE=texts.csv`, over many labels and seeds.

One label's texts are kept from a classifier that is taught the other labels, as if the taxonomy lacked it. A
window of rows with known labels is followed by one with these and with the new label's. All are labelled by
the classifier, whose confidence is right on average. Found means that one of the first three groups is the
new label's to at least 0.8. Also told: the same without a window before, and how often any group is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from connectors.clickhouse.queries.watching.recent_texts import RecentText
from streams.quality.discovery.discover import UNSURE
from streams.quality.discovery.groups import find_groups
from tests.unit.streams.quality.long_runs.overconfident import Text, read_texts

FIRST, SHARE = 3, 0.8
FEWEST_TEXTS = 40
DIMENSIONS, RIDGE = 200, 0.5


class Classifier:
    """A linear one of the letters in the texts, by least squares: it is taught again for each label."""

    def __init__(self, taught: Sequence[Text]) -> None:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._features = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=30_000, dtype=np.float32
        )
        self._reduced = TruncatedSVD(DIMENSIONS, n_iter=2, random_state=0)
        points = self._reduced.fit_transform(self._features.fit_transform([one.text for one in taught]))
        self.labels = sorted({one.label for one in taught})
        right = np.eye(len(self.labels))[[self.labels.index(one.label) for one in taught]]
        self._weights = np.linalg.solve(points.T @ points + RIDGE * np.eye(DIMENSIONS), points.T @ right)

    def labelled(self, texts: Sequence[Text], new: str) -> tuple[list[str], NDArray[np.float64]]:
        """Label and confidence of each; the confidence is right on average for known labels."""
        points = self._reduced.transform(self._features.transform([one.text for one in texts]))
        logits = points @ self._weights
        given = [self.labels[place] for place in logits.argmax(axis=1)]
        known = [label == one.label for label, one in zip(given, texts, strict=True) if one.label != new]
        confidence = np.zeros(len(texts))
        for heat in np.geomspace(2, 60, 40):
            powers = np.exp(heat * (logits - logits.max(axis=1, keepdims=True)))
            confidence = powers.max(axis=1) / powers.sum(axis=1)
            if confidence.mean() >= np.mean(known):
                break
        return given, confidence


def tried(texts: Sequence[Text], new: str, seed: int, *, before: bool) -> tuple[bool, bool]:
    """Whether one of the first groups is the new label's, and whether any is."""
    random = np.random.default_rng(seed)
    known = [one for one in texts if one.label != new]
    order = random.permutation(len(known))
    taught = [known[place] for place in order[: len(known) // 2]]
    stream = [known[place] for place in order[len(known) // 2 :]] + [one for one in texts if one.label == new]
    given, confidence = Classifier(taught).labelled(stream, new)
    rows = []
    for number, (one, label, sure) in enumerate(zip(stream, given, confidence, strict=True)):
        now = one.label == new or not before or random.random() < 0.5
        rows.append(
            RecentText(one.text, label, float(sure), str(number), int(now), int(not now), bool(sure < UNSURE))
        )
    shares = [
        np.mean([stream[place].label == new for place in group.members]) for group in find_groups(rows, 1_000)
    ]
    return any(share >= SHARE for share in shares[:FIRST]), any(share >= SHARE for share in shares)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="a CSV with text and label")
    parser.add_argument("--column", help="of the labels; scenario if there is one, else label")
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args()
    texts = [one for one in read_texts(chosen.file, chosen.column) if one.label != "oos"]
    counts = Counter(one.label for one in texts)
    labels = sorted(label for label, count in counts.items() if count >= FEWEST_TEXTS)
    labels = list(np.random.default_rng(0).permutation(labels))[: chosen.labels]
    found: Counter[str] = Counter()
    for label in labels:
        for seed in range(chosen.seeds):
            for before, name in ((True, "found"), (False, "found without a window before")):
                first, anywhere = tried(texts, label, seed, before=before)
                found[name] += first
                found[f"{name}, in any group"] += anywhere
                print(f"{label} {seed}: {name} {first}, in any group {anywhere}", file=sys.stderr, flush=True)
    runs = len(labels) * chosen.seeds
    print(json.dumps({"runs": runs, **{name: count / runs for name, count in sorted(found.items())}}))


if __name__ == "__main__":
    main()
