"""A text as recognisers read it: look-alike characters made equal, each with its place in the text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from streams.privacy.entities import PLACEHOLDER

# What stands for a placeholder: neither letter, digit nor white space, and in no folded text.
BARRIER = "\x00"

# Texts that folding changes only in their dashes.
_PLAIN = re.compile("[ -~А-Яа-яЁё«»№–—…₽\x00]*")
_DASHES = str.maketrans("–—", "--")
# Letters that look alike, in a word of both alphabets.
_WORD_OF_BOTH = re.compile("[A-Za-zА-Яа-яЁё]*(?:[A-Za-z][А-Яа-яЁё]|[А-Яа-яЁё][A-Za-z])[A-Za-zА-Яа-яЁё]*")
_LATIN = re.compile("[A-Za-z]")
_CYRILLIC = str.maketrans("ABCEHIKMOPTXYaceiokpuxyë", "АВСЕНІКМОРТХУасеіокриху" + "ё")
_DIGIT_LETTERS = str.maketrans("OОoоQlIІі|ЗзбBВ", "000001111" + "133688")
_DIGIT_LIKE = re.compile(r"(?<![^\W_])[0-9OОoоQlIІі|ЗзбBВ]{2,}+(?![^\W_])")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9][ \-])[OОоoIІl|]{2,4}(?![^\W_])")
_MAY_BE_DIGIT = re.compile("[0-9][OОoоQlIІі|ЗзбBВ]|[OОoоQlIІі|ЗзбBВ][0-9]")


@dataclass(frozen=True, slots=True)
class View:
    """``text`` to read; character ``i`` stands at ``starts[i]`` to ``ends[i]`` of the original text.

    Without ``starts`` the places are the same. ``lower``: in lower case, of the same length.
    """

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None
    lower: str = field(init=False)

    def __post_init__(self) -> None:
        lower = self.text.lower()
        if len(lower) != len(self.text):
            lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in self.text)
        object.__setattr__(self, "lower", lower)

    def original(self, start: int, end: int) -> tuple[int, int]:
        """Where the characters from ``start`` to before ``end`` stand in the original text."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> View:
    """``text`` with equal characters for equal looks: width, digits, dashes, blanks; nothing invisible.

    Placeholders become barriers.
    """
    if "[" in text:
        text = PLACEHOLDER.sub(lambda match: BARRIER * len(match[0]), text.replace(BARRIER, " "))
    if _PLAIN.fullmatch(text):
        return View(_without_mixed_words(text.translate(_DASHES)))
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for place, char in enumerate(text):
        if unicodedata.combining(char):
            if folded:
                together = unicodedata.normalize("NFC", folded[-1] + char)
                folded[-1] = together if len(together) == 1 else folded[-1]
                ends[-1] = place + 1
            continue
        for part in _fold_character(char):
            folded.append(part)
            starts.append(place)
            ends.append(place + 1)
    return View(_without_mixed_words("".join(folded)), starts, ends)


def _fold_character(char: str) -> str:
    if "!" <= char <= "~" or "А" <= char <= "я" or char == BARRIER:
        return char
    category = unicodedata.category(char)
    if category in ("Cf", "Mn", "Me", "Cs"):
        return ""
    if category[0] in "ZC":
        return " "
    if category == "Pd" or char == "−":
        return "-"
    digit = unicodedata.digit(char, None)
    return str(digit) if digit is not None else unicodedata.normalize("NFKC", char)


def _without_mixed_words(text: str) -> str:
    if not _LATIN.search(text):
        return text
    return _WORD_OF_BOTH.sub(lambda match: match[0].translate(_CYRILLIC), text)


def read_digits(view: View) -> View:
    """``view`` with letters that stand for digits as digits: 9О2 is 902."""
    if not _MAY_BE_DIGIT.search(view.text):
        return view
    text = _DIGIT_LIKE.sub(_digits_of, view.text)
    return View(_BETWEEN_DIGITS.sub(_as_digits, text), view.starts, view.ends)


def _digits_of(match: re.Match[str]) -> str:
    return _as_digits(match) if any("0" <= char <= "9" for char in match[0]) else match[0]


def _as_digits(match: re.Match[str]) -> str:
    return match[0].translate(_DIGIT_LETTERS)
