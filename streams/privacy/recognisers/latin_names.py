"""Names of persons in Latin letters: a Russian first name beside a surname or a patronymic, as a card or a
passport has them.

First names are compared by how they sound, for each office writes them in its own way: Юлия is Yulia, Iuliia
and Julia.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_WORDS = re.compile(r"(?<![^\W_])[A-Za-z]{2,20}(?:[ -][A-Za-z]{2,20}){1,2}(?![^\W_])")
_WORD = re.compile("[A-Za-z]+")
# Endings that hardly anything else has, and those that English words have as well: only with capitals.
_SURNAME = re.compile(
    r"[a-z]{2,}(?:[oe]va?|yov|[sc]k(?:i[iyj]?|y|aya|aia)|enko|ch?uk|[iy]kh|shvili|dze|(?:ov|ev)(?:ich|na)|ichna)"
)
_CAPITAL_SURNAME = re.compile(r"[a-z]{3,}(?:ina?|yan|ian|ko|uk)")
_NO_SURNAME = re.compile("login|admin|main|domain|plugin|(?:bit)?coin|begin|again|train|brain|margin")
# One letter a sound, from the longest spelling to the shortest.
_PAIRS = (
    "shch:W sch:W sh:S ch:C zh:Z kh:h ts:c iu:U yu:U ju:U iya:A iia:A ia:A ya:A ja:A io:O yo:O jo:O "
    "ye:e ie:e iy:i ii:i ij:i x:ks w:v y:i j:i q:k"
)
_LATIN = [pair.split(":") for pair in _PAIRS.split()]
_CYRILLIC = (
    *(("ия", "A"), ("ья", "A"), ("ий", "i"), ("ье", "e"), ("ие", "e"), ("ию", "U"), ("кс", "ks")),
    *zip("абвгдеёжзийклмнопрстуфхцчшщъыьэюя", "abvgdeOZziiklmnoprstufhcCSW\0i\0eUA", strict=True),
)


# First names that lists leave out, because they are words as well.
_MORE = ("семен", "роман", "вера", "надежда", "любовь")


class LatinNames:
    """Finds them. ``first``: the first names that are known, in Cyrillic."""

    def __init__(self, first: Iterable[str]) -> None:
        self._first = frozenset(_sound(name, _CYRILLIC) for name in (*first, *_MORE) if len(name) > 3)

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where persons stand in ``text``."""
        for match in _WORDS.finditer(text):
            words = [one.span() for one in _WORD.finditer(text, *match.span())]
            while len(words) > 1:
                if self._is_name([text[slice(*word)] for word in words]):
                    yield words[0][0], words[-1][1]
                    break
                if len(words) == 3 and self._is_name([text[slice(*word)] for word in words[1:]]):
                    words = words[1:]
                else:
                    words = words[:-1]

    def _is_name(self, words: list[str]) -> bool:
        firsts = [_sound(word.lower(), _LATIN) in self._first and len(word) > 3 for word in words]
        surnames = [_is_surname(word) for word in words]
        if len(words) == 2:
            return (firsts[0] and surnames[1]) or (surnames[0] and firsts[1])
        return any(firsts) and sum(surnames) >= 2


def _is_surname(word: str) -> bool:
    lower = word.lower()
    if _SURNAME.fullmatch(lower):
        return True
    return (
        word[0].isupper()
        and not _NO_SURNAME.fullmatch(lower)
        and _CAPITAL_SURNAME.fullmatch(lower) is not None
    )


def _sound(word: str, letters: Iterable[Sequence[str]]) -> str:
    for written, sound in letters:
        word = word.replace(written, sound)
    return word.replace("\0", "").replace("O", "e")
