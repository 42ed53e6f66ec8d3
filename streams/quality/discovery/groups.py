"""Groups of texts that the labels do not fit: density clusters of their characters, in a space of few
dimensions (HDBSCAN: Campello, Moulavi, Sander, PAKDD 2013).

A group counts more, the more it grows against the window before, and the less its texts are like those that
are labelled with certainty: a group that is like these is a label's hard cases, not something new.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from connectors.clickhouse.queries.watching.recent_texts import RecentText
from streams.core.errors import optional_packages
from streams.core.topics import normalise

Floats = NDArray[np.floating[Any]]

# Character n-grams within words, and the dimensions that they are reduced to.
_GRAMS, _FEATURES, _DIMENSIONS = (2, 5), 30_000, 64
# A group has so many texts at least: more, where there are many texts. They are compared with so many others.
_FEWEST_TEXTS, _SHARE_OF_TEXTS, _MOST_TEXTS, _NEIGHBOURS = 5, 150, 25, 3
_TRUST_IN_GROWTH = 0.3
_AT_ONCE = 500
# Of texts that are labelled with certainty, those with more unknown n-grams than nearly all known texts.
_NOVEL, _NOVEL_GRAM, _FEWEST_KNOWN = 0.98, 5, 200


class TextGroup(NamedTuple):
    """``members``: positions of its texts, the most typical first. ``now``, ``before``: rows of the texts.
    ``score``: what groups are ordered by.
    """

    members: Sequence[int]
    now: int
    before: int
    score: float


def find_groups(texts: Sequence[RecentText], most: int = 20) -> list[TextGroup]:
    """The groups among the doubtful and the novel texts, what is likeliest new first, at most ``most``.

    Raises:
        ConfigurationError: scikit-learn is not installed.
    """
    with optional_packages("looking for what is new"):
        from sklearn.cluster import HDBSCAN

    asked = [place for place, one in enumerate(texts) if one.doubtful]
    asked += novel_texts(texts)
    if len(asked) < 2 * _FEWEST_TEXTS:
        return []
    known = sorted(set(range(len(texts))) - set(asked))
    order = [*asked, *known]
    smallest = min(max(_FEWEST_TEXTS, len(asked) // _SHARE_OF_TEXTS), _MOST_TEXTS)
    vectors = _vectors([normalise(texts[place].text) for place in order])
    if vectors is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal points
        doubtful = _points(vectors)[: len(asked)]
        found = HDBSCAN(
            min_cluster_size=smallest, min_samples=3, cluster_selection_method="leaf", copy=True
        ).fit_predict(doubtful)
    apart, history = _apart(vectors, len(asked)), any(one.before for one in texts)
    groups = []
    for number in range(int(found.max()) + 1):
        members = np.flatnonzero(found == number)
        middle = doubtful[members].mean(axis=0)
        members = members[np.argsort(-(doubtful[members] @ middle), kind="stable")]
        places = [asked[member] for member in members]
        now, before = sum(texts[at].now for at in places), sum(texts[at].before for at in places)
        rank = score(len(places), now, before, float(apart[members].mean()), history=history)
        groups.append(TextGroup(places, now, before, rank))
    return sorted((one for one in groups if one.now), key=lambda one: -one.score)[:most]


def score(texts: int, now: int, before: int, apart: float, *, history: bool) -> float:
    """How likely a group of so many ``texts`` is something new, for the order alone. ``now``, ``before``: its
    rows. ``apart``: as `_apart`, its mean. ``history``: there are rows before at all: then growth tells most.
    """
    growth = max(0.0, 1.0 - (before + 1) / (now + 1))
    return float(np.sqrt(texts)) * growth * max(apart + (_TRUST_IN_GROWTH if history else 0.0), 0.0)


def novel_texts(texts: Sequence[RecentText]) -> list[int]:
    """Texts of the present window that are labelled with certainty and unlike those of the window before."""
    known = [place for place, one in enumerate(texts) if one.before and not one.doubtful]
    fresh = [place for place, one in enumerate(texts) if not one.before and not one.doubtful]
    if len(known) < _FEWEST_KNOWN or not fresh:
        return []
    grams = {place: _grams(texts[place].text) for place in (*known, *fresh)}
    vocabulary = Counter(gram for place in known for gram in grams[place])

    def unknown(place: int, own: int) -> float:
        return sum(vocabulary[gram] <= own for gram in grams[place]) / max(len(grams[place]), 1)

    bound = float(np.quantile([unknown(place, 1) for place in known], _NOVEL))
    return [place for place in fresh if unknown(place, 0) > bound]


def _grams(text: str) -> set[str]:
    padded = f" {normalise(text)} "
    return {padded[at : at + _NOVEL_GRAM] for at in range(max(len(padded) - _NOVEL_GRAM + 1, 1))}


def _vectors(texts: Sequence[str]) -> Any:
    """The weights of each text's n-grams, a sparse matrix with rows of length 1; None if no two texts share
    any.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(
        analyzer="char_wb",
        ngram_range=_GRAMS,
        sublinear_tf=True,
        min_df=2,
        max_features=_FEATURES,
        dtype=np.float32,
    )
    try:
        return vectors.fit_transform(texts)
    except ValueError:
        return None


def _points(vectors: Any) -> Floats:
    """A point of length 1 for each text, in few dimensions."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    dimensions = min(_DIMENSIONS, vectors.shape[0] - 1, vectors.shape[1] - 1)
    if dimensions < 2:
        return np.asarray(normalize(vectors.toarray()))
    return np.asarray(normalize(TruncatedSVD(dimensions, n_iter=2, random_state=0).fit_transform(vectors)))


def _apart(vectors: Any, doubtful: int) -> Floats:
    """Of each of the first ``doubtful`` texts, how much more it is like the nearest ones among these than
    like the nearest of the others: a difference of cosines.
    """
    found = []
    for begin in range(0, doubtful, _AT_ONCE):
        some = vectors[begin : min(begin + _AT_ONCE, doubtful)]
        own = (some @ vectors[:doubtful].T).toarray()
        own[np.arange(len(own)), np.arange(begin, begin + len(own))] = 0.0
        others = (some @ vectors[doubtful:].T).toarray()
        found.append(_nearest(own) - _nearest(others))
    return np.concatenate(found)


def _nearest(alike: Floats) -> Floats:
    near = min(_NEIGHBOURS, alike.shape[1])
    if not near:
        return np.zeros(len(alike))
    return np.asarray(np.partition(alike, -near, axis=1)[:, -near:].mean(axis=1))
