"""Fits a proxy to labelled texts; the only module here that needs scikit-learn (the extra `quality`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.proxy.classifier import MOST_BYTES, Proxy
from agents.proxy.features import FEATURES, KNOWN_BITS, Features, features_of
from streams.core.errors import optional_packages
from streams.core.topics import normalise

_C = 10.0
# Whole numbers of a byte, and of the norms.
_MOST_WEIGHT, _NORM_UNIT = 127, 64
_TEMPERATURES = tuple(1.12**step for step in range(-24, 25))
# A text is known if its share of known n-grams is not among the lowest of these texts of known labels.
_NOVEL = 0.02

Floats = NDArray[np.float64]


def fit(
    texts: Sequence[str], labels: Sequence[str], weights: Sequence[float] | None = None, seed: int = 0
) -> Proxy:
    """A proxy of distinct ``texts`` and their ``labels``. ``weights``: how often each counts, 1 each if None.

    The same texts, labels and weights give the same bytes, in whatever order they come. Its scores are not
    calibrated yet, and it takes every text for known (`calibrated`).

    Raises:
        ValueError: there are fewer than two labels.
    """
    given = weights if weights is not None else [1.0] * len(texts)
    rows = sorted(zip(map(normalise, texts), labels, given, strict=True))
    names = tuple(sorted({label for _, label, _ in rows}))
    if len(names) < 2:
        raise ValueError(f"a proxy needs texts of two labels or more, not of {len(names)}")
    found = features_of([text for text, _, _ in rows])
    norms = _norms(found)
    coefficients, biases = _one_against_the_rest(
        found, norms, [label for _, label, _ in rows], [weight for _, _, weight in rows], names, seed
    )
    known = np.zeros(KNOWN_BITS, np.bool_)
    known[found.seen] = True
    scales = np.maximum(np.abs(coefficients).max(axis=0), 1e-9) / _MOST_WEIGHT
    proxy = Proxy(
        labels=names,
        weights=np.rint(coefficients / scales).astype(np.int8),
        scales=scales,
        biases=biases,
        norms=norms,
        known=np.packbits(known, bitorder="little"),
        known_share=0.0,
    )
    return _small(proxy)


def calibrated(
    proxy: Proxy, texts: Sequence[str], labels: Sequence[str], weights: Sequence[float] | None = None
) -> Proxy:
    """``proxy`` with the temperature that makes ``labels`` of ``texts`` likeliest, and the gate for texts
    unlike those that it was taught. The texts must not have been fitted on; without any it stays as it is.
    """
    if not texts:
        return proxy
    found = features_of(texts)
    at: Mapping[str, int] = {label: index for index, label in enumerate(proxy.labels)}
    known = [row for row, label in enumerate(labels) if label in at]
    logits = proxy.logits(found)
    chosen = np.array([at[labels[row]] for row in known], np.int64)
    weight = np.array([1.0 if weights is None else weights[row] for row in known])

    def loss(temperature: float) -> float:
        scaled = logits[known] / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        chance = scaled[np.arange(len(known)), chosen] - np.log(np.exp(scaled).sum(axis=1))
        return -float((chance * weight).sum())

    temperature = min(_TEMPERATURES, key=loss) if known else 1.0
    shares = np.sort(proxy.known_shares(found))
    return replace(
        proxy,
        scales=proxy.scales / temperature,
        biases=proxy.biases / temperature,
        known_share=float(shares[int(_NOVEL * len(shares))]),
    )


def _norms(found: Features) -> NDArray[np.uint16]:
    """What a feature adds to a text's squared length: the square of its inverse document frequency."""
    texts = len(found.starts) - 1
    frequency = np.bincount(found.feature, minlength=FEATURES)
    inverse = np.log((1 + texts) / (1 + frequency)) + 1
    norms: NDArray[np.uint16] = np.rint(np.square(inverse) * _NORM_UNIT).astype(np.uint16)
    return norms


def _one_against_the_rest(
    found: Features,
    norms: NDArray[np.uint16],
    labels: Sequence[str],
    weights: Sequence[float],
    names: Sequence[str],
    seed: int,
) -> tuple[Floats, Floats]:
    """Coefficients (features x labels) and intercepts, for texts as `Proxy.logits` sees them."""
    with optional_packages("the fit of a proxy"):
        from scipy.sparse import csr_matrix
        from sklearn.linear_model import LogisticRegression
    inverse = np.sqrt(norms)
    lengths = np.sqrt(np.add.reduceat(norms[found.feature], found.starts[:-1], dtype=np.int64))
    values = inverse[found.feature] / np.repeat(lengths, np.diff(found.starts))
    matrix: Any = csr_matrix((values, found.feature, found.starts), shape=(len(labels), FEATURES))
    is_label = np.array(labels)
    coefficients, biases = np.zeros((FEATURES, len(names))), np.zeros(len(names))
    for at, name in enumerate(names):
        one = LogisticRegression(solver="liblinear", dual=True, C=_C, random_state=seed)
        one.fit(matrix, is_label == name, sample_weight=np.array(weights))
        coefficients[:, at] = one.coef_[0] * inverse
        biases[at] = one.intercept_[0]
    return coefficients, biases


def _small(proxy: Proxy) -> Proxy:
    """``proxy`` without its least weights, as many as it takes to be packed in MOST_BYTES."""
    least = 1
    while len(proxy.pack()) > MOST_BYTES:
        proxy = replace(
            proxy, weights=np.where(np.abs(proxy.weights) <= least, 0, proxy.weights).astype(np.int8)
        )
        least += 1
    return proxy
