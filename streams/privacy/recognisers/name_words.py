"""What a dictionary knows of a word: first name, patronymic, surname, or an ordinary word.

The dictionary is OpenCorpora's as pymorphy2 packs it: five million forms, so that names are known in every
case. It is read as data; pymorphy2 itself is not imported.
"""

from __future__ import annotations

import json
import re
from array import array
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from streams.privacy.recognisers.packages import folder_of
from streams.privacy.recognisers.word_lists import words

# Endings of words that the dictionary does not hold.
_PATRONYMIC = re.compile(
    r"[а-яё]{3,}(?:(?:ов|ев)ич(?:а|у|ем|е)?|(?:ов|ев)н(?:а|ы|е|у|ой)|ичн(?:а|ы|е|у|ой))$"
)
_SURNAME = re.compile(
    r"[а-яё]{3,}(?:(?:ов|ев|ин|ын)(?:а|у|ым|е|ой|ы|ых)?|[сц]к(?:ий|ого|ому|им|ом|ая|ой|ую)|енк[оиуае]|ко|"
    r"[чш]ук(?:а|у|ом|е)?|юк(?:а|у|ом|е)?|ян(?:а|у|ом|е|ц)?|швили|дзе|ия|ман(?:а|у|ом)?|штейн(?:а|у)?|"
    r"берг(?:а|у)?|[иы]х|ич(?:а|у)?|[аеу]йло|оглу)$"
)
_NAME_ENDING = re.compile(r"(?:ями|ою|ею|ом|ем|ой|ей|ью|[аяуюыиеь])$")
_TURKIC = frozenset({"оглы", "кызы", "улы", "угли", "гызы", "кизи"})


def ends_as_surname(word: str) -> bool:
    """Whether ``word`` has an ending of surnames; many ordinary words have."""
    return _SURNAME.fullmatch(word.replace("ё", "е")) is not None


class WordKind(NamedTuple):
    """What a word may be.

    ``ordinary``: also, or only, something else. ``known``: the dictionary holds it. ``lemma``: its first form
    as a name.
    """

    first: bool = False
    patronymic: bool = False
    surname: bool = False
    ordinary: bool = False
    known: bool = True
    lemma: str = ""

    @property
    def named(self) -> bool:
        """Whether it may be part of a name."""
        return self.first or self.patronymic or self.surname


class NameWords:
    """The dictionary in memory, some 25 MB.

    Raises `ConfigurationError` where it is not installed.
    """

    def __init__(self) -> None:
        folder = folder_of("pymorphy2_dicts_ru") / "data"
        from dawg_python import RecordDAWG

        self._words = RecordDAWG(">HH")
        self._words.load(str(folder / "words.dawg"))
        self._yo = self._words.compile_replaces({"е": "ё"})
        self._tags: list[str] = json.loads((folder / "gramtab-opencorpora-int.json").read_text("utf-8"))
        self._suffixes: list[str] = json.loads((folder / "suffixes.json").read_text("utf-8"))
        self._paradigms = _paradigms(folder / "paradigms.array")
        first = (folder_of("natasha") / "data" / "dict" / "first.txt").read_text("utf-8")
        self.first_names = frozenset(first.split())
        self.kind = lru_cache(maxsize=50_000)(self._kind)

    def _kind(self, word: str) -> WordKind:
        """What ``word`` (in lower case) may be."""
        first = patronymic = surname = ordinary = False
        plural = False
        lemmas: set[str] = set()
        found = self._words.similar_items(word, self._yo) if len(word) <= 40 else []
        for form, records in found:
            for paradigm, index in records:
                tag, base = self._read(form, paradigm, index)
                if "Name" in tag and "plur" in tag:
                    plural = True  # «исмаилов» is a surname, hardly several of the name Исмаил
                    continue
                is_name = "Name" in tag
                is_patronymic, is_surname = "Patr" in tag, "Surn" in tag
                first, patronymic, surname = (
                    first or is_name,
                    patronymic or is_patronymic,
                    surname or is_surname,
                )
                if is_name or is_patronymic or is_surname:
                    lemmas.add(base.replace("ё", "е"))
                elif "Poss" not in tag and "Geox" not in tag and "Abbr" not in tag:
                    ordinary = True
        if word in words("rather_names"):
            first, ordinary = True, False
        if word in words("not_names"):
            return WordKind(ordinary=True)
        if not found or (plural and not lemmas and not ordinary):
            return self._guess(word)
        # The shortest is the same in every case: «петра» is of Пётр, and Петра.
        lemma = min(lemmas, key=lambda base: (len(base), base), default="")
        return WordKind(first, patronymic, surname, ordinary, True, lemma)

    def _guess(self, word: str) -> WordKind:
        word = word.replace("ё", "е")
        if "-" in word:
            parts = [self.kind(part) for part in word.split("-")]
            if all(part.named for part in parts):
                return WordKind(
                    any(part.first for part in parts),
                    False,
                    any(part.surname for part in parts),
                    all(part.ordinary for part in parts),
                    True,
                    "-".join(part.lemma for part in parts),
                )
            return WordKind(known=False, lemma=word)
        if word in _TURKIC:
            return WordKind(patronymic=True, lemma=word)
        stem = _NAME_ENDING.sub("", word)
        if word in self.first_names or any(
            stem + end in self.first_names for end in ("", "а", "я", "й", "ь")
        ):
            return WordKind(first=len(word) > 3, known=False, lemma=stem)
        if _PATRONYMIC.fullmatch(word):
            return WordKind(patronymic=True, known=False, lemma=_NAME_ENDING.sub("", word))
        return WordKind(surname=ends_as_surname(word), known=False, lemma=stem)

    def _read(self, form: str, paradigm: int, index: int) -> tuple[str, str]:
        """The tag of a form, and its first form."""
        row = self._paradigms[paradigm]
        count = len(row) // 3
        suffix = self._suffixes[row[index]]
        stem = form[: len(form) - len(suffix)] if suffix else form
        return self._tags[row[count + index]], stem + self._suffixes[row[0]]


def _paradigms(path: Path) -> list[array[int]]:
    """Each paradigm: suffixes, tags and prefixes of its forms, as numbers."""
    numbers = array("H")
    numbers.frombytes(path.read_bytes())
    rows: list[array[int]] = []
    at = 1
    for _ in range(numbers[0]):
        length = numbers[at]
        rows.append(numbers[at + 1 : at + 1 + length])
        at += 1 + length
    return rows
