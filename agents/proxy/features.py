"""Hashed character n-grams of texts, in numpy alone: workers do without scikit-learn.

A text is the set of the n-grams of 2 to 5 characters of its words, each word between two blanks. Each is
hashed to one of 2^16 features, of which the classifier has weights; those of 4 characters also to one of 2^20
bits, by which it knows what it has seen. All is integer arithmetic: a text's features depend on nothing but
the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.topics import normalise

_FEATURE_BITS, _KNOWN_BITS = 16, 20
FEATURES, KNOWN_BITS = 1 << _FEATURE_BITS, 1 << _KNOWN_BITS
SHORTEST, LONGEST = 2, 5
# Of which length the n-grams are by which novelty is judged.
NOVELTY = 4
# What is behind is not read, and such a text never counts as known.
MOST_CHARACTERS = 2_000

Indices = NDArray[np.int64]
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_STEP = np.uint64(0x100000001B3)
_SHIFT = np.uint64(29)
_TO_FEATURE, _TO_KNOWN = np.uint64(64 - _FEATURE_BITS), np.uint64(64 - _KNOWN_BITS)
_BLANK = np.uint64(ord(" "))


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
    # No text is without any n-gram; NUL is in no other.
    padded = [f" {text[:MOST_CHARACTERS] or chr(0)} " for text in plain]
    lengths = np.fromiter(map(len, padded), np.int64, len(padded))
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    text = np.repeat(np.arange(len(padded), dtype=np.int64), lengths) << _FEATURE_BITS
    blank = codes == _BLANK
    # Two blanks in succession are the end of a text and the beginning of the next: no n-gram of a text.
    inside = ~(blank[:-1] & blank[1:])
    rolling = codes + np.uint64(1)
    hashed: list[Indices] = []
    seen = seen_text = np.zeros(0, np.int64)
    for size in range(SHORTEST, LONGEST + 1):
        rolling = rolling[:-1] * _STEP + codes[size - 1 :] + np.uint64(1)
        if size > SHORTEST:
            inside = inside[:-1] & ~blank[size - 2 : -1]  # a blank is the first or the last character
        mixed = rolling[inside] * _MULTIPLIER
        mixed = (mixed ^ mixed >> _SHIFT) * _MULTIPLIER
        owner = text[: len(rolling)][inside]
        hashed.append(owner | (mixed >> _TO_FEATURE).astype(np.int64))
        if size == NOVELTY:
            seen, seen_text = (mixed >> _TO_KNOWN).astype(np.int64), owner >> _FEATURE_BITS
    both = np.sort(np.concatenate(hashed))
    both = both[np.concatenate(([True], both[1:] != both[:-1]))]
    return Features(
        both & (FEATURES - 1),
        np.searchsorted(both >> _FEATURE_BITS, np.arange(len(padded) + 1)),
        seen,
        np.searchsorted(seen_text, np.arange(len(padded) + 1)),
        np.fromiter(map(_is_cut, texts, plain), np.bool_, len(texts)),
    )


def _is_cut(text: str, plain: str) -> bool:
    return len(text) > MOST_CHARACTERS or len(plain) > MOST_CHARACTERS  # NFKC may make a text longer


def ngrams_of(text: str) -> dict[str, int]:
    """Each n-gram of ``text`` with its feature, for explanations."""
    found: dict[str, int] = {}
    for word in (normalise(text[:MOST_CHARACTERS])[:MOST_CHARACTERS] or chr(0)).split():
        for size in range(SHORTEST, LONGEST + 1):
            for at in range(len(word) + 3 - size):
                found.setdefault(f" {word} "[at : at + size], 0)
    for gram in found:
        found[gram] = _feature_of(gram)
    return found


def _feature_of(gram: str) -> int:
    rolling = 0
    for character in gram:
        rolling = (rolling * int(_STEP) + ord(character) + 1) % (1 << 64)
    mixed = rolling * int(_MULTIPLIER) % (1 << 64)
    mixed = (mixed ^ mixed >> int(_SHIFT)) * int(_MULTIPLIER) % (1 << 64)
    return mixed >> int(_TO_FEATURE)
