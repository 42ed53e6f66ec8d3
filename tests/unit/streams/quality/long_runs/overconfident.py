"""A classifier that is far too sure of itself, as language models are: its logits are tripled.

It is taught on a part of the texts of a CSV file by the letters in them, and labels the others. What is right
is known there, so that figures can be compared with the truth.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LOGITS = 3.0
LEAST_UNSEEN = 2_000


class Text(NamedTuple):
    """A text and its right label."""

    text: str
    label: str


def read_texts(path: Path, column: str | None = None) -> list[Text]:
    """The texts of ``path``, each once. ``column``: of the labels; `scenario` if there is one, else `label`.

    Raises:
        ValueError: the file has no such columns.
    """
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file)
        names = lines.fieldnames or ()
        column = column or ("scenario" if "scenario" in names else "label")
        if not {"text", column} <= set(names):
            raise ValueError(f"{path} has no columns text and {column}")
        return list({line["text"].strip(): Text(line["text"], line[column]) for line in lines}.values())


def parted(texts: Sequence[Text], taught: int, seed: int) -> tuple[list[Text], list[Text]]:
    """Those to teach, and those that stay unseen.

    Raises:
        ValueError: too few stay.
    """
    if len(texts) < taught + LEAST_UNSEEN:
        raise ValueError(f"{len(texts)} texts, and {taught} to teach with {LEAST_UNSEEN} more are needed")
    order = np.random.default_rng(seed).permutation(len(texts))
    first, rest = order[:taught], order[taught:]
    return [texts[number] for number in first], [texts[number] for number in rest]


class Overconfident:
    """Gives each text a probability for each label."""

    def __init__(self, taught: Sequence[Text]) -> None:
        # Here: each process of the tests imports this module, and it takes a second of CPU.
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

        self._features = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2)
        self._model = LogisticRegression(C=20, max_iter=300).fit(
            self._features.fit_transform([one.text for one in taught]), [one.label for one in taught]
        )
        self.labels: list[str] = [str(one) for one in self._model.classes_]

    def chances(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """A line a text, in the order of ``labels``; each sums to 1."""
        logits = LOGITS * self._model.decision_function(self._features.transform(texts))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return found
