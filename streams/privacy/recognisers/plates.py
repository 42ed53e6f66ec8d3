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
_REGION = r"[0-9] ?[0-9](?: ?[0-9])?"
_END = r"(?:[ -]?(?:rus|рус))?(?![^\W_])"
_CAR = re.compile(
    rf"(?<![^\W_]){_LETTER}[ -]?[0-9] ?[0-9] ?[0-9][ -]?{_LETTER}[ -]?{_LETTER}"
    rf"(?P<region>[ /|,-]{{0,2}}{_REGION})?{_END}"
)
# Of taxis, trailers and motorcycles: only with a word for it.
_OTHER = re.compile(
    rf"(?<![^\W_])(?:{_LETTER}[ -]?{_LETTER} ?[0-9]{{3,4}}|[0-9]{{4}} ?{_LETTER}[ -]?{_LETTER})"
    rf"[ /|-]{{0,2}}{_REGION}{_END}"
)
_CONTEXT = re.compile(r"авто|машин|\bгос|\bтачк|\bг/н|\bгрз\b|номерн|\bмото|\bприцеп|\bтакси")
# Without a region and with blanks inside it must be called a number: a car also drives «в 100 км».
_NUMBER = re.compile(r"\bгос|номер|\bг/н\b|\bгрз\b")
_BEFORE, _AFTER = 40, 24


def find_plates(view: View) -> Iterator[PersonalFinding]:
    """The car plates of a text. A bare one needs its region, and capitals or no blanks inside."""
    text = view.lower
    for pattern in (_CAR, _OTHER):
        for match in pattern.finditer(text):
            start, end = match.span()
            around = text[max(0, start - _BEFORE) : start] + " " + text[end : end + _AFTER]
            written = view.text[start:end]
            whole = pattern is not _CAR or match["region"]
            close = written.isupper() or " " not in written
            formed = pattern is _CAR and whole and close
            if formed or (_CONTEXT.search(around) and (whole or close or _NUMBER.search(around))):
                key = re.sub("[^а-я0-9]", "", match[0].translate(_CYRILLIC))
                yield PersonalFinding(*view.original(start, end), Entity.PLATE, key)
