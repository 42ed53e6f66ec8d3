"""Gold labels that are likeliest wrong (confident learning, arXiv 1911.00068).

Each row is judged by a model that was taught on other texts. A row is a suspect if the model gives it another
label with at least the probability that it gives, on average, to rows that people gave that other label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.errors import RefusedError, optional_packages
from streams.core.topics import normalise
from streams.quality.estimates import Floats

_FOLDS = 5
# A label of fewer texts cannot be learnt without the row that is judged.
FEWEST_TEXTS = 3


class Suspect(NamedTuple):
    """``at``: position of the row. ``likelier``: another label, with its probability and the given one's."""

    at: int
    likelier: str
    likelier_probability: float
    given_probability: float


def suspects(texts: Sequence[str], labels: Sequence[str]) -> list[Suspect]:
    """The rows whose label is likeliest wrong, the likeliest first. Rows of very rare labels are not judged.

    Raises:
        RefusedError: fewer than two labels have texts enough.
    """
    keys = [normalise(text) for text in texts]
    of_label: dict[str, set[str]] = defaultdict(set)
    for key, label in zip(keys, labels, strict=True):
        of_label[label].add(key)
    known = sorted(label for label, some in of_label.items() if len(some) >= FEWEST_TEXTS)
    if len(known) < 2:
        raise RefusedError(
            f"there are too few gold rows: two labels with {FEWEST_TEXTS} texts each are needed",
            reason="too-few",
        )
    rows = [number for number, label in enumerate(labels) if label in set(known)]
    place = {label: number for number, label in enumerate(known)}
    given = np.array([place[labels[row]] for row in rows])
    chances = _held_out(
        [texts[row] for row in rows], given, np.array([_fold(keys[row]) for row in rows]), len(known)
    )
    own = chances[np.arange(len(rows)), given]
    usual = np.array([chances[given == one, one].mean() for one in range(len(known))])
    # Of the labels that are as probable as usual, the most probable one.
    likelier = np.where(chances >= usual, chances, 0.0)
    likelier[np.arange(len(rows)), given] = 0.0
    best = likelier.argmax(axis=1)
    best_chance = likelier[np.arange(len(rows)), best]
    order = np.argsort(own - best_chance, kind="stable")
    return [
        Suspect(rows[at], known[best[at]], float(best_chance[at]), float(own[at]))
        for at in order
        if best_chance[at] > own[at]
    ]


def _held_out(
    texts: Sequence[str], given: NDArray[np.int64], folds: NDArray[np.int64], labels: int
) -> Floats:
    """By row and label, from models that have not seen the row's text."""
    with optional_packages("the search for doubtful gold labels"):  # takes a second to import
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression

    features = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True, max_features=50_000)
    counted = features.fit_transform(texts)
    found = np.zeros((len(texts), labels))
    for fold in range(_FOLDS):
        here = folds == fold
        others = np.unique(given[~here])
        if not here.any() or not len(others):
            continue
        if len(others) == 1:
            found[np.ix_(here, others)] = 1.0
            continue
        model = LogisticRegression(C=10.0, solver="saga", tol=0.01, max_iter=300, random_state=0).fit(
            counted[~here], given[~here]
        )
        found[np.ix_(here, model.classes_)] = model.predict_proba(counted[here])
    return found


def _fold(key: str) -> int:
    """Equal texts are in one fold."""
    return blake2b(key.encode("utf-8", "replace"), digest_size=4).digest()[0] % _FOLDS
