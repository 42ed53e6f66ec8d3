"""What the stand-in is taught by labelled queries: which runs of characters speak for which label.

Naive Bayes over the n-grams of 3 to 5 characters that a text has. Counted when the stand-in starts, from the
queries that come with the package: some hundred texts are too few for more.
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

QUERIES = Path(__file__).parents[2] / "local" / "data" / "queries.csv"

_SHORTEST, _LONGEST = 3, 5
# N-grams of one text overlap, so their evidence is counted many times over.
_OVERLAP = 20.0
_MOST_CHARACTERS = 1_000


class Taught:
    """The evidence for each of ``labels`` in a text."""

    def __init__(self, queries: Iterable[tuple[str, str]]) -> None:
        """``queries``: texts with their labels."""
        texts = Counter[str]()
        counts: dict[str, Counter[str]] = {}
        for text, label in queries:
            texts[label] += 1
            for gram in _grams(text):
                counts.setdefault(gram, Counter())[label] += 1
        self.labels = tuple(sorted(texts))
        self._texts = texts
        self._counts = counts
        self._weigh = lru_cache(maxsize=50_000)(self._weighed)

    def _weighed(self, gram: str) -> tuple[float, ...]:
        """For each label the logarithm of how much more often its texts have ``gram`` than the others'."""
        found = self._counts.get(gram)
        if found is None:
            return ()
        of_all, all_texts = found.total(), self._texts.total()
        return tuple(
            math.log((found[label] + 1) / (texts + 2))
            - math.log((of_all - found[label] + 1) / (all_texts - texts + 2))
            for label, texts in ((label, self._texts[label]) for label in self.labels)
        )

    def evidence(self, text: str) -> dict[str, float]:
        """Of each label, as a logarithm."""
        sums = [0.0] * len(self.labels)
        for gram in sorted(_grams(text)):
            for column, weight in enumerate(self._weigh(gram)):
                sums[column] += weight
        return {label: one / _OVERLAP for label, one in zip(self.labels, sums, strict=True)}


def taught_by(path: Path = QUERIES) -> Taught:
    """What the file of queries teaches: CSV with `query_text` and `domain`."""
    with path.open(encoding="utf-8", newline="") as file:
        return Taught((row["query_text"], row["domain"]) for row in csv.DictReader(file))


def _grams(text: str) -> set[str]:
    padded = f" {' '.join(text[:_MOST_CHARACTERS].lower().replace('ё', 'е').split())} "
    return {
        padded[at : at + size]
        for size in range(_SHORTEST, _LONGEST + 1)
        for at in range(len(padded) - size + 1)
    }
