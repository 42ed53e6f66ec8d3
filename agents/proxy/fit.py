"""Fits a proxy to labelled texts; the only module here that needs scikit-learn (the extra `quality`).

One logistic regression a label, against all others: as accurate as a multinomial one and fitted in a
twentieth of the time (docs/internals/cascade.md). Temperature and novelty gate come from the same texts, each
as a proxy sees it that was fitted without it: so none has to be kept from teaching.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agents.proxy.audited import number_of
from agents.proxy.classifier import MOST_BYTES, Proxy, ProxyDecision
from agents.proxy.features import FEATURES, KNOWN_BITS, Features, features_of
from streams.core.errors import optional_packages
from streams.core.topics import normalise

_C = 10.0
# Whole numbers of a byte, and of the norms.
_MOST_WEIGHT, _NORM_UNIT = 127, 64
_TEMPERATURES = tuple(1.12**step for step in range(-24, 25))
# A text is novel if fewer of its n-grams are known than of all but this share of the texts left out.
_NOVEL = 0.02
# Fits without some of the texts; of many texts these are enough to be left out, in a single fit.
_FOLDS, _MOST_LEFT_OUT = 3, 3_000
# Fits without some of the labels: one part of them each; of fewer labels too few would be left.
_LABEL_PARTS, _FEWEST_LABELS, _MOST_FOR_STRANGERS = 4, 6, 3_000

Floats = NDArray[np.float64]


class LeftOut(NamedTuple):
    """A teaching text with its ``label``, and the ``decision`` of a proxy that was fitted without it."""

    label: str
    decision: ProxyDecision
    weight: float

    @property
    def differs(self) -> bool:
        return self.decision.label != self.label


class Fitted(NamedTuple):
    """``left_out``: the texts that were left out of a fit once; all, or a random part of many. ``strangers``:
    what is decided of texts of a label by a proxy that has never seen that label.
    """

    proxy: Proxy
    left_out: tuple[LeftOut, ...]
    strangers: tuple[ProxyDecision, ...] = ()


class _Text(NamedTuple):
    text: str
    label: str
    weight: float


def fit(
    texts: Sequence[str], labels: Sequence[str], weights: Sequence[float] | None = None, seed: int = 0
) -> Proxy:
    """The proxy of `fit_and_try` alone."""
    return fit_and_try(texts, labels, weights, seed).proxy


def fit_and_try(
    texts: Sequence[str], labels: Sequence[str], weights: Sequence[float] | None = None, seed: int = 0
) -> Fitted:
    """A proxy of distinct ``texts`` and their ``labels``. ``weights``: how often each counts, 1 each if None.

    The same texts, labels and weights give the same bytes, in whatever order they come.

    Raises:
        ValueError: there are fewer than two labels.
    """
    given = weights if weights is not None else [1.0] * len(texts)
    rows = sorted(map(_Text, map(normalise, texts), labels, given))
    if len({row.label for row in rows}) < 2:
        raise ValueError(f"a proxy needs texts of two labels, and these {len(rows)} texts have not so many")
    order = sorted(range(len(rows)), key=lambda at: number_of("fold", rows[at].text))
    size = -(-len(rows) // _FOLDS)
    folds = [order[at : at + size] for at in range(0, len(rows), size)]
    if size > _MOST_LEFT_OUT:
        folds = [order[:_MOST_LEFT_OUT]]
    tried = [(fitted, left) for fold in folds if (fitted := _without(rows, fold, seed)) for left in [fold]]
    temperature, share = _calibration([(one, [rows[at] for at in fold]) for one, fold in tried])
    left_out: list[LeftOut] = []
    for one, fold in tried:
        decisions = _scaled(one, temperature, share).decide([rows[at].text for at in fold])
        left_out += map(LeftOut, [rows[at].label for at in fold], decisions, [rows[at].weight for at in fold])
    strangers: list[ProxyDecision] = []
    for proxy, texts_of_others in _without_labels([rows[at] for at in order[:_MOST_FOR_STRANGERS]], seed):
        strangers += _scaled(proxy, temperature, share).decide(texts_of_others)
    return Fitted(_small(_scaled(_fitted(rows, seed), temperature, share)), tuple(left_out), tuple(strangers))


def _without_labels(rows: Sequence[_Text], seed: int) -> Iterator[tuple[Proxy, list[str]]]:
    """Proxies that know only some of the labels, each with the texts of the others."""
    names = sorted({row.label for row in rows}, key=lambda name: number_of("labels", name))
    if len(names) < _FEWEST_LABELS:
        return
    for part in range(_LABEL_PARTS):
        unknown = set(names[part::_LABEL_PARTS])
        rest = sorted(row for row in rows if row.label not in unknown)
        yield _fitted(rest, seed), [row.text for row in rows if row.label in unknown]


def _without(rows: Sequence[_Text], fold: Sequence[int], seed: int) -> Proxy | None:
    left = set(fold)
    rest = [row for at, row in enumerate(rows) if at not in left]
    return _fitted(rest, seed) if len({row.label for row in rest}) > 1 else None


def _scaled(proxy: Proxy, temperature: float, known_share: float) -> Proxy:
    return replace(
        proxy,
        scales=proxy.scales / temperature,
        biases=proxy.biases / temperature,
        known_share=known_share,
    )


def _calibration(tried: Sequence[tuple[Proxy, Sequence[_Text]]]) -> tuple[float, float]:
    """The temperature that makes the labels likeliest, and the least share of known n-grams."""
    behind: list[tuple[Floats, Floats]] = []  # how far each label is above a text's own, and the weights
    shares: list[Floats] = []
    for proxy, rows in tried:
        found = features_of([row.text for row in rows])
        shares.append(proxy.known_shares(found))
        at = {label: index for index, label in enumerate(proxy.labels)}
        known = [row for row, one in enumerate(rows) if one.label in at]
        logits = proxy.logits(found)[known]
        own = logits[np.arange(len(known)), [at[rows[row].label] for row in known]]
        behind.append((logits - own[:, None], np.array([rows[row].weight for row in known])))
    if not shares:
        return 1.0, 0.0

    def loss(temperature: float) -> float:
        return sum(
            float(np.logaddexp.reduce(above / temperature, axis=1) @ weight) for above, weight in behind
        )

    lowest = np.sort(np.concatenate(shares))
    return min(_TEMPERATURES, key=loss), float(lowest[int(_NOVEL * len(lowest))])


def _fitted(rows: Sequence[_Text], seed: int) -> Proxy:
    names = tuple(sorted({row.label for row in rows}))
    found = features_of([row.text for row in rows])
    norms = _norms(found)
    coefficients, biases = _one_against_the_rest(found, norms, rows, names, seed)
    known = np.zeros(KNOWN_BITS, np.bool_)
    known[found.seen] = True
    scales = np.maximum(np.abs(coefficients).max(axis=0), 1e-9) / _MOST_WEIGHT
    return Proxy(
        labels=names,
        weights=np.rint(coefficients / scales).astype(np.int8),
        scales=scales,
        biases=biases,
        norms=norms,
        known=np.packbits(known, bitorder="little"),
        known_share=0.0,
    )


def _norms(found: Features) -> NDArray[np.uint16]:
    """What a feature adds to a text's squared length: the square of its inverse document frequency."""
    texts = len(found.starts) - 1
    frequency = np.bincount(found.feature, minlength=FEATURES)
    inverse = np.log((1 + texts) / (1 + frequency)) + 1
    norms: NDArray[np.uint16] = np.rint(np.square(inverse) * _NORM_UNIT).astype(np.uint16)
    return norms


def _one_against_the_rest(
    found: Features, norms: NDArray[np.uint16], rows: Sequence[_Text], names: Sequence[str], seed: int
) -> tuple[Floats, Floats]:
    """Coefficients (features x labels) and intercepts, for texts as `Proxy.logits` sees them."""
    with optional_packages("the fit of a proxy"):
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
    inverse = np.sqrt(norms)
    lengths = np.sqrt(np.add.reduceat(norms[found.feature], found.starts[:-1], dtype=np.int64))
    values = inverse[found.feature] / np.repeat(lengths, np.diff(found.starts))
    # Only features that there are: the solver's time goes with their number.
    used, columns = np.unique(found.feature, return_inverse=True)
    matrix: Any = csr_matrix((values, columns, found.starts), shape=(len(rows), len(used)))
    labels = np.array([row.label for row in rows])
    weights = np.array([row.weight for row in rows])
    coefficients, biases = np.zeros((FEATURES, len(names))), np.zeros(len(names))
    for at, name in enumerate(names):
        one = LogisticRegression(solver="liblinear", dual=True, C=_C, random_state=seed)
        one.fit(matrix, labels == name, sample_weight=weights)
        coefficients[used, at] = one.coef_[0] * inverse[used]
        biases[at] = one.intercept_[0]
    return coefficients, biases


def _small(proxy: Proxy) -> Proxy:
    """``proxy`` without its least weights, as many as it takes to be packed in MOST_BYTES."""
    if sum(part.nbytes for part in (proxy.weights, proxy.norms, proxy.known)) < 0.99 * MOST_BYTES:
        return proxy  # packing is for half of the time of a fit
    least = 1
    while len(proxy.pack()) > MOST_BYTES:
        kept = np.where(np.abs(proxy.weights) <= least, 0, proxy.weights).astype(np.int8)
        proxy = replace(proxy, weights=kept)
        least += 1
    return proxy
