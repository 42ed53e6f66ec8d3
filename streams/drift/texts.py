"""TextFeatures of texts: their n-grams that are not known yet, their script, their length."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.core.topics import normalise
from streams.drift.counts import LENGTH, UNKNOWN, Moments

Bits = NDArray[np.bool_]

# Characters of an n-gram; and the places of the vocabulary, of which a million texts fill about a third.
_N = 4
_BITS = 1 << 20
_DAYS = 14  # of a generation
_RUSSIAN = frozenset("абвгдеёжзийклмнопрстуфхцчшщъыьэюя")
_MIX = np.uint64(0x9E3779B97F4A7C15)
# The share of unknown n-grams says nothing before so many days were learnt.
LEARNT_DAYS = 2
_REMEMBERED = 8192  # texts, some 4 MB


class TextFeatures(NamedTuple):
    """``places``: of the different character 4-grams, blanks at the ends included. ``script``: of most
    letters, `cyrillic`, `cyrillic-other` with letters that Russian does not have (Ukrainian, Kazakh, Tatar
    have them in nearly each sentence), `latin`, `other`, or `none` without letters. ``length``:
    logarithm of 1 + characters.
    """

    places: NDArray[np.int64]
    script: str
    length: float


@lru_cache(_REMEMBERED)  # texts come again and again
def features(text: str) -> TextFeatures:
    """What is watched of ``text``."""
    codes = np.frombuffer(f" {normalise(text)} ".encode("utf-32-le", "surrogatepass"), dtype="<u4")
    hashed = np.zeros(max(len(codes) - _N + 1, 1), dtype=np.uint64)
    for place in range(min(_N, len(codes))):
        hashed = (hashed ^ codes[place : place + len(hashed)].astype(np.uint64)) * _MIX
        hashed ^= hashed >> np.uint64(29)
    places = np.unique(hashed & np.uint64(_BITS - 1)).astype(np.int64)
    scripts = Counter(
        "latin" if ord(one) < 0x250 else "cyrillic" if 0x400 <= ord(one) < 0x530 else "other"
        for one in text
        if one.isalpha()
    )
    script = scripts.most_common(1)[0][0] if scripts else "none"
    if script == "cyrillic" and any("\u0400" <= one < "\u0530" for one in {*text.lower()} - _RUSSIAN):
        script = "cyrillic-other"
    return TextFeatures(places, script, math.log1p(len(text)))


class Vocabulary:
    """The n-grams of the reference. What is learnt on a day is known two days later at most, and forgotten
    after two to four weeks without being seen.

    A bitmap of hashes: the texts cannot be made of it.
    """

    def __init__(self) -> None:
        self.day = 0  # days since 1970 of ``_today``
        self.learnt_days = 0
        self._today, self._yesterday = _none(), _none()
        self._young, self._old = _none(), _none()

    def turn_to(self, day: int) -> bool:
        """``day`` is at hand; days only grow. Returns whether it is another one."""
        if day <= self.day:
            return False
        for _ in range(min(day - self.day, 2)):
            if self._yesterday.any():
                self.learnt_days += 1
            self._young = self._young | self._yesterday
            self._yesterday, self._today = self._today, _none()
        if day // _DAYS != self.day // _DAYS:
            self._old, self._young = self._young, _none()
        self.day = day
        return True

    @property
    def known(self) -> Bits:
        """What counts as known."""
        return self._young | self._old

    @property
    def today(self) -> Bits:
        """What was learnt of the day at hand."""
        return self._today

    def learn(self, places: Iterable[NDArray[np.int64]]) -> None:
        """Note the n-grams of texts of the day at hand."""
        for some in places:
            self._today[some] = True

    def pack(self) -> list[bytes]:
        """The bitmaps, without those of the day at hand."""
        return [np.packbits(bits).tobytes() for bits in (self._yesterday, self._young, self._old)]

    @classmethod
    def unpack(cls, day: int, learnt_days: int, packed: Sequence[bytes]) -> Vocabulary:
        """The inverse of `pack`: nothing is known of ``day`` itself.

        Raises:
            ValueError: another release has made them.
        """
        if len(packed) != 3 or any(len(bits) * 8 != _BITS for bits in packed):
            raise ValueError("bitmaps of another size")
        made = cls()
        made.day, made.learnt_days = day, learnt_days
        made._yesterday, made._young, made._old = (
            np.unpackbits(np.frombuffer(bits, dtype=np.uint8)).astype(bool) for bits in packed
        )
        return made


def _none() -> Bits:
    return np.zeros(_BITS, dtype=bool)


def look_at(
    texts: Sequence[tuple[str, int]], vocabulary: Vocabulary
) -> tuple[dict[str, int], dict[str, Moments]]:
    """The scripts and the means of ``texts``, each with how many rows have it; they are learnt too."""
    scripts = Counter[str]()
    known = vocabulary.known if vocabulary.learnt_days >= LEARNT_DAYS else None
    count = np.array([rows for _, rows in texts], dtype=float)
    found = [features(text) for text, _ in texts]
    for one, (_, rows) in zip(found, texts, strict=True):
        scripts[one.script] += rows
    means = {LENGTH: _moments(count, np.array([one.length for one in found]))}
    if known is not None:
        means[UNKNOWN] = _moments(count, np.array([1.0 - known[one.places].mean() for one in found]))
    vocabulary.learn(one.places for one in found)
    return dict(scripts), means


def _moments(count: NDArray[np.float64], values: NDArray[np.float64]) -> Moments:
    return float(count.sum()), float(count @ values), float(count @ values**2)
