"""Groups of texts that the labels do not fit: density clusters of their characters, in a space of few
dimensions (HDBSCAN: Campello, Moulavi, Sander, PAKDD 2013).

The doubtful texts are clustered, and all texts are: among all of them a label's hard cases stay in one
cluster with its easy ones, among the doubtful ones a small new thing is not lost beside what is certain. A
group of all texts is a cluster's doubtful ones, and those that did not come before, if anything did. A group
counts more, the more the texts that are most like its own are doubtful, the more they are of the present
window alone, and the more alike they are. Of two groups with the same texts the one that counts more is told.
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
# A cluster has so many texts at least: more, where there are many, of all texts and of the doubtful ones.
_FEWEST_TEXTS, _OF_ALL, _OF_DOUBTFUL = 5, (300, 8), (150, 25)
# The nearest texts that tell of one how doubtful and how recent such texts are, and how alike.
_NEIGHBOURS, _NEAREST = 10, 5
_TRUST_IN_GROWTH = 2.0
_LEAST = 0.01  # where all texts are alike doubtful, size and likeness order the groups
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
    """The groups of texts that the labels do not fit, what is likeliest new first, at most ``most``.

    Raises:
        ConfigurationError: scikit-learn is not installed.
    """
    with optional_packages("looking for what is new"):
        import sklearn  # noqa: F401

    doubtful = np.array([one.doubtful for one in texts], dtype=bool)
    doubtful[novel_texts(texts)] = True
    if doubtful.sum() < 2 * _FEWEST_TEXTS:
        return []
    vectors = _vectors([normalise(one.text) for one in texts])
    if vectors is None:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal texts
        points = _points(vectors)
    now = np.array([one.now for one in texts])
    rows = now + np.array([one.before for one in texts])
    near = _nearest(vectors, doubtful, now / np.maximum(rows, 1))
    ours = doubtful | ((rows == now) & (rows > now).any())
    found = [members[ours[members]] for members in _clusters(points, np.arange(len(texts)), *_OF_ALL)]
    found += _clusters(points, np.flatnonzero(doubtful), *_OF_DOUBTFUL)
    groups = []
    for members in found:
        own = int(now[members].sum())
        if len(members) < _FEWEST_TEXTS or not own:
            continue
        order = np.argsort(-(points[members] @ points[members].mean(axis=0)), kind="stable")
        before = int(rows[members].sum()) - own
        rank = score(len(members), own, before, *near[members].mean(axis=0))
        groups.append(TextGroup(members[order].tolist(), own, before, rank))
    return _apart(sorted(groups, key=lambda one: -one.score))[:most]


def _clusters(points: Floats, places: NDArray[np.intp], share: int, most: int) -> list[NDArray[np.intp]]:
    from sklearn.cluster import HDBSCAN

    if len(places) < 2 * _FEWEST_TEXTS:
        return []
    smallest = min(max(_FEWEST_TEXTS, len(places) // share), most)
    clusters = HDBSCAN(min_cluster_size=smallest, min_samples=3, cluster_selection_method="leaf", copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of equal points
        found = clusters.fit_predict(points[places])
    return [places[found == number] for number in range(int(found.max()) + 1)]


def _apart(groups: Sequence[TextGroup]) -> list[TextGroup]:
    """Those that have less than half of their texts in common with all before them."""
    told: set[int] = set()
    apart = []
    for one in groups:
        if 2 * len(told.intersection(one.members)) < len(one.members):
            told.update(one.members)
            apart.append(one)
    return apart


def score(texts: int, now: int, before: int, doubtful: float, recent: float, alike: float) -> float:
    """How likely a group of so many ``texts`` is something new, for the order alone. ``now``, ``before``: its
    rows. ``doubtful``, ``recent``, ``alike``: as `_nearest`, the means of its texts.
    """
    growth = max(0.0, 1.0 - (before + 1) / (now + 1))
    return float(np.sqrt(texts) * growth * max(doubtful + _TRUST_IN_GROWTH * recent, _LEAST) * alike)


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


def _nearest(vectors: Any, doubtful: NDArray[np.bool_], recent: Floats) -> Floats:
    """Of each text what the most alike ones tell, an array of (texts, 3): the share of doubtful ones, and of
    present rows, both over that of all texts, and how alike they are: a mean cosine.
    """
    many, found = min(_NEIGHBOURS, vectors.shape[0] - 1), []
    for begin in range(0, vectors.shape[0], _AT_ONCE):
        alike = (vectors[begin : begin + _AT_ONCE] @ vectors.T).toarray()
        alike[np.arange(len(alike)), np.arange(begin, begin + len(alike))] = -1.0
        places = np.argpartition(alike, -many, axis=1)[:, -many:]
        cosines = np.sort(np.take_along_axis(alike, places, axis=1), axis=1)[:, -_NEAREST:]
        found.append(
            np.stack(
                [
                    doubtful[places].mean(axis=1) - doubtful.mean(),
                    recent[places].mean(axis=1) - recent.mean(),
                    cosines.mean(axis=1),
                ],
                axis=1,
            )
        )
    return np.concatenate(found)
