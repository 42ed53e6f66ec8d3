"""Car plates: one letter, three digits, two letters, region."""

from __future__ import annotations

import re
from collections.abc import Iterator

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding
from streams.privacy.recognisers.views import View

# Plates use the letters that both alphabets have.
_LETTER = "[авекмнорстухabekmhopctyx]"
_CYRILLIC = str.maketrans("abekmhopctyx", "авекмнорстух")
_REGION = r"(?:регион[а-я]* )?[0-9] ?[0-9](?: ?[0-9])?"
_END = r"(?:[ -]?(?:rus|рус|(?:-?[а-я]{1,2} )?регион[а-я]*))?(?![^\W_])"
# A zero may be written as the letter.
_DIGITS = r"(?=[оo ]{0,4}[0-9])[0-9оo] ?[0-9оo] ?[0-9оo]"
_BLANK = r"[ .·_\-]{0,2}"
_CAR = re.compile(
    rf"(?<![^\W_]){_LETTER}{_BLANK}{_DIGITS}{_BLANK}(?P<pair>{_LETTER}{_BLANK}{_LETTER})"
    rf"(?P<region>[ /|,._-]{{0,3}}{_REGION})?{_END}"
)
# Of «в 100 км 50» and «с 200 на 300».
_NO_PAIR = re.compile("[кснм]м|мс|ма|[кв]в|вт|ом|ст|на|т[оауер]|но|[кв]о|от|со|он|ну|ум|[аоу]х|ее")
# Of taxis, trailers and motorcycles: only with a word for it.
_OTHER = re.compile(
    rf"(?<![^\W_])(?:{_LETTER}[ -]?{_LETTER} ?[0-9]{{3,4}}|[0-9]{{4}} ?{_LETTER}[ -]?{_LETTER})"
    rf"[ /|-]{{0,2}}{_REGION}{_END}"
)
_CONTEXT = re.compile(
    r"авто|машин|\bгос|\bтачк|\bг/н|\bгрз\b|номерн|\bмото|\bприцеп|\bтакси|\bштраф|\bпарков|\bосаго|\bкаско|"
    r"\bдтп\b|\bптс\b|\bтранспорт|\bрегион"
)
# Without a region and with blanks inside it must be called a number: a car also drives «в 100 км».
_NUMBER = re.compile(r"\bгос|номер|\bг/н\b|\bгрз\b")
_BEFORE, _AFTER = 40, 24


def find_plates(view: View) -> Iterator[PersonalFinding]:
    """The car plates of a text. A bare one needs its region, and with blanks two letters that are no word."""
    text = view.lower
    for pattern in (_CAR, _OTHER):
        for match in pattern.finditer(text):
            start, end = match.span()
            around = text[max(0, start - _BEFORE) : start] + " " + text[end : end + _AFTER]
            written = view.text[start:end]
            whole = pattern is not _CAR or match["region"]
            close = written.isupper() or " " not in written
            formed = pattern is _CAR and whole and (close or _is_pair(match["pair"]))
            if formed or (_CONTEXT.search(around) and (whole or close or _NUMBER.search(around))):
                key = re.sub("[^а-я0-9]", "", match[0].translate(_CYRILLIC))
                yield PersonalFinding(*view.original(start, end), Entity.PLATE, key)


def _is_pair(letters: str) -> bool:
    return _NO_PAIR.fullmatch(re.sub("[^а-я]", "", letters.translate(_CYRILLIC))) is None
