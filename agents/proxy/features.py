"""Hashed character n-grams of texts, in numpy alone: workers do without scikit-learn.

A text is its set of n-grams of 2 to 5 characters, normalised and between blanks. Each is hashed twice: to one
of 2^16 features, of which the classifier has weights, and, those of 4 characters, to one of 2^20 bits by
which it knows what it has seen. All is integer arithmetic: a text's features depend on nothing but the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.topics import normalise

FEATURES = 1 << 16
KNOWN_BITS = 1 << 20
SHORTEST, LONGEST = 2, 5
# Of which length the n-grams are by which novelty is judged.
NOVELTY = 4
# What is behind is not read, and such a text never counts as known.
MOST_CHARACTERS = 2_000

Indices = NDArray[np.int64]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0x100000001B3)
_SHIFT = np.uint64(29)


class Features(NamedTuple):
    """Of some texts, one after another. ``feature``: the features of all, distinct and ascending for each
    text; ``starts``: where each text's begin, with their number at the end. ``seen`` and ``seen_starts``: the
    same for the bits of novelty. ``cut``: which texts were too long.
    """

    feature: Indices
    starts: Indices
    seen: Indices
    seen_starts: Indices
    cut: NDArray[np.bool_]


def features_of(texts: Sequence[str]) -> Features:
    """The features of texts; a text without any character has few, but never none."""
    plain = [normalise(text[:MOST_CHARACTERS]) for text in texts]
    padded = [f" {text[:MOST_CHARACTERS]} " for text in plain]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    ends = np.cumsum(lengths)
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    left = np.repeat(ends, lengths) - np.arange(len(codes))  # characters from here to the text's end
    text = np.repeat(np.arange(len(padded), dtype=np.int64), lengths)
    rolling = codes + np.uint64(1)
    hashed: list[Indices] = []
    seen = seen_text = np.zeros(0, np.int64)
    for size in range(SHORTEST, LONGEST + 1):
        rolling = rolling[:-1] * _STEP + codes[size - 1 :] + np.uint64(1)
        inside = left[: len(rolling)] >= size
        mixed = rolling[inside] * _MULTIPLIER
        mixed = (mixed ^ mixed >> _SHIFT) * _MULTIPLIER
        owner = text[: len(rolling)][inside]
        hashed.append(owner << 16 | (mixed >> np.uint64(48)).astype(np.int64))
        if size == NOVELTY:
            seen, seen_text = (mixed >> np.uint64(44)).astype(np.int64), owner
    both = np.unique(np.concatenate(hashed))
    return Features(
        both & (FEATURES - 1),
        np.searchsorted(both >> 16, np.arange(len(padded) + 1)),
        seen,
        np.searchsorted(seen_text, np.arange(len(padded) + 1)),
        np.fromiter(map(_is_cut, texts, plain), np.bool_, len(texts)),
    )


def _is_cut(text: str, plain: str) -> bool:
    return len(text) > MOST_CHARACTERS or len(plain) > MOST_CHARACTERS  # NFKC may make a text longer


def ngrams_of(text: str) -> dict[str, int]:
    """Each n-gram of ``text`` with its feature, for explanations."""
    padded = f" {normalise(text[:MOST_CHARACTERS])[:MOST_CHARACTERS]} "
    found: dict[str, int] = {}
    for size in range(SHORTEST, LONGEST + 1):
        for at in range(len(padded) - size + 1):
            found.setdefault(padded[at : at + size], 0)
    for gram in found:
        found[gram] = _feature_of(gram)
    return found


def _feature_of(gram: str) -> int:
    rolling = 0
    for character in gram:
        rolling = (rolling * int(_STEP) + ord(character) + 1) % (1 << 64)
    mixed = rolling * int(_MULTIPLIER) % (1 << 64)
    mixed = (mixed ^ mixed >> int(_SHIFT)) * int(_MULTIPLIER) % (1 << 64)
    return mixed >> 48
