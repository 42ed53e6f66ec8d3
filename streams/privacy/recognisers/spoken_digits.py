"""Digits written as words: «восемь девятьсот двенадцать» is read as ``8 912``."""

from __future__ import annotations

import re

from streams.privacy.recognisers.views import View

_UNITS = ("ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять")
_TEENS = (
    "десять", "одиннадцать", "двенадцать", "тринадцать", "четырнадцать", "пятнадцать", "шестнадцать",
    "семнадцать", "восемнадцать", "девятнадцать",
)  # fmt: skip
_TENS = ("двадцать", "тридцать", "сорок", "пятьдесят", "шестьдесят", "семьдесят", "восемьдесят", "девяносто")
_HUNDREDS = (
    "сто", "двести", "триста", "четыреста", "пятьсот", "шестьсот", "семьсот", "восемьсот", "девятьсот",
)  # fmt: skip
_VALUES = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: value for value, word in enumerate(_TEENS, 10)},
    **{word: 10 * value for value, word in enumerate(_TENS, 2)},
    **{word: 100 * value for value, word in enumerate(_HUNDREDS, 1)},
    "нуль": 0,
    "нолик": 0,
    "одна": 1,
    "единица": 1,
    "две": 2,
    "шессот": 600,
    "шисят": 60,
    "писят": 50,
    "восемдесят": 80,
    "семдесят": 70,
    "пятдесят": 50,
    "шестдесят": 60,
    "восем": 8,
    "сем": 7,
    "единичка": 1,
    "двойка": 2,
    "тройка": 3,
    "четверка": 4,
    "четвёрка": 4,
    "пятерка": 5,
    "пятёрка": 5,
    "шестерка": 6,
    "шестёрка": 6,
    "семерка": 7,
    "семёрка": 7,
    "восьмерка": 8,
    "восьмёрка": 8,
    "девятка": 9,
}
_WORDS = "|".join(sorted(_VALUES, key=len, reverse=True))
_WORD = re.compile(rf"\b(?:{_WORDS})\b")
_RUN = re.compile(rf"(?:\bплюс )?\b(?:{_WORDS})\b(?:[ ,\-]{{1,3}}(?:{_WORDS})\b)*")


def read_words(view: View) -> View:
    """``view`` with digits for number words; each digit stands where its words do."""
    text = view.lower
    first = _WORD.search(text)
    if first is None:
        return view
    read: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def copy(start: int, end: int) -> None:
        read.append(view.text[start:end])
        if view.starts is None or view.ends is None:
            starts.extend(range(start, end))
            ends.extend(range(start + 1, end + 1))
        else:
            starts.extend(view.starts[start:end])
            ends.extend(view.ends[start:end])

    done = 0
    for run in _RUN.finditer(text, max(0, first.start() - len("плюс "))):
        copy(done, run.start())
        if run[0].startswith("плюс"):
            read.append("+")
            place = view.original(run.start(), run.start() + len("плюс "))
            starts.append(place[0])
            ends.append(place[1])
        for number, (digits, start, end) in enumerate(_groups(run)):
            place = view.original(start, end)
            written = digits if number == 0 else " " + digits
            read.append(written)
            starts.extend([place[0]] * len(written))
            ends.extend([place[1]] * len(written))
        done = run.end()
    copy(done, len(text))
    return View("".join(read), starts, ends)


def _groups(run: re.Match[str]) -> list[tuple[str, int, int]]:
    """The numbers of a run of words, each with its place: hundreds, tens and units that follow make one."""
    groups: list[tuple[str, int, int]] = []
    value, room, start, end = 0, 0, 0, 0
    for match in _WORD.finditer(run.string, run.start(), run.end()):
        spoken = _VALUES[match[0]]
        size = 100 if spoken >= 100 else 10 if spoken >= 20 else 1
        if not 0 < spoken < room:
            if end:
                groups.append((str(value), start, end))
            value, start = 0, match.start()
        value, end = value + spoken, match.end()
        # What may still follow: after hundreds anything below, after tens a unit, after others nothing.
        room = size if size > 1 else 0
    groups.append((str(value), start, end))
    return groups
