"""Numbers of documents: passport, SNILS, INN and health insurance, by form, check digits and context."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding
from streams.privacy.recognisers.numbers import NumberCandidate
from streams.privacy.recognisers.views import View

# Series and number with a word between, in either order.
_SERIES = r"(?:сери[яиюей](?: паспорта)?|сер\.?)[ :\-]{0,3}[0-9]{2} ?[0-9]{2}\b"
_NUMBER = r"(?:номер[а-яё]*(?: паспорта)?|ном|no|n|№)[ :.\-]{0,3}[0-9]{6}\b"
_PASSPORT = re.compile(
    rf"\b{_SERIES}[ ,;.]{{0,3}}(?:и |а )?{_NUMBER}|\b{_NUMBER}[ ,;.]{{0,3}}(?:и )?{_SERIES}"
)
_CERTIFICATE = re.compile(r"\b[IVXІХ]{1,5} ?- ?[А-Я]{2} ?№? ?[0-9]{6}\b")
_DIGITS = re.compile("[0-9]")
# The last two digits of the series: the year in which the form was printed.
_YEARS = frozenset(f"{year:02}" for year in (*range(97, 100), *range(40)))
_INN_10 = (2, 4, 10, 3, 5, 9, 4, 6, 8)
_INN_12 = ((7, 2, 4, 10, 3, 5, 9, 4, 6, 8), (3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8))


class Passports:
    """Ten digits; nine of a foreign passport; six with a word for it."""

    entity = Entity.PASSPORT
    lengths = frozenset({6, 9, 10})

    def judge(self, number: NumberCandidate) -> int:
        asked = number.context is Entity.PASSPORT
        if len(number.digits) == 10:
            if asked:
                return 3
            formed = number.groups in ((2, 2, 6), (4, 6)) and number.digits[2:4] in _YEARS
            return 0 if number.ordinary or not formed or number.context is Entity.PHONE else 2
        return int(asked and not number.ordinary and number.groups in ((2, 7), (9,), (6,)))


class Snils:
    """Eleven digits, the last two of which check the others."""

    entity = Entity.SNILS
    lengths = frozenset({9, 10, 11, 12})

    def judge(self, number: NumberCandidate) -> int:
        asked = number.context is Entity.SNILS
        if len(number.digits) != 11:
            return int(asked)  # a digit too many or too few
        if asked or (checks_snils(number.digits) and number.groups == (3, 3, 3, 2)):
            return 3
        if not checks_snils(number.digits) or number.ordinary or number.context is not None:
            return 2 * int(number.groups == (3, 3, 3, 2) and not number.ordinary)
        return 2


class Inn:
    """Ten digits of a firm, twelve of a person; one and two check digits."""

    entity = Entity.INN
    lengths = frozenset({9, 10, 11, 12, 13})

    def judge(self, number: NumberCandidate) -> int:
        valid = checks_inn(number.digits)
        if number.context is Entity.INN:
            return 3 if valid else 2
        if not valid or number.ordinary or number.context is Entity.PHONE:
            return 0
        return 2 if len(number.digits) == 12 else int(number.groups == (10,) and number.context is None)


class HealthInsurance:
    """Sixteen digits; older forms are shorter. Only with a word for it: other numbers look the same."""

    entity = Entity.OMS
    lengths = frozenset(range(6, 18))

    def judge(self, number: NumberCandidate) -> int:
        if number.context is not Entity.OMS:
            return 0
        return 3 if len(number.digits) == 16 else 2 * int(not number.ordinary)


def find_passports(view: View) -> Iterator[PersonalFinding]:
    """Passports whose number stands apart from the series, and certificates of birth."""
    for pattern, text in ((_PASSPORT, view.lower), (_CERTIFICATE, view.text)):
        for match in pattern.finditer(text):
            start = match.start()
            if pattern is _PASSPORT:
                start += next(_DIGITS.finditer(match[0])).start()
            key = "".join(_DIGITS.findall(match[0]))
            yield PersonalFinding(*view.original(start, match.end()), Entity.PASSPORT, key)


def checks_snils(digits: str) -> bool:
    """Whether the last two of eleven digits check the others: their weighted sum modulo 101."""
    total = sum(int(digit) * weight for digit, weight in zip(digits, range(9, 0, -1), strict=False))
    return total % 101 % 100 == int(digits[9:])


def checks_inn(digits: str) -> bool:
    """Whether the last of ten, or the last two of twelve digits check the others."""
    if len(digits) == 10:
        return _checks(digits, _INN_10)
    return len(digits) == 12 and all(_checks(digits, weights) for weights in _INN_12)


def _checks(digits: str, weights: Sequence[int]) -> bool:
    total = sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))
    return total % 11 % 10 == int(digits[len(weights)])
