"""Accounts: of a bank (20 digits, IBAN), and a customer's own with its word before it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import cycle

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding
from streams.privacy.recognisers.numbers import NumberCandidate
from streams.privacy.recognisers.views import View

# Digits 6 to 8 of a bank account.
_CURRENCIES = frozenset({"810", "643", "840", "978", "156", "398", "933", "826", "756", "392"})
_NUMBER_WORD = r"[ :№\-]{0,3}(?:номер[а-яё]*|ном\.?|n)?[ :№\-]{0,3}$"
_CUSTOMER = re.compile(rf"(?:лицев[а-яё]+ (?:сч[её]т[а-яё]*)?|\bл/сч?|\bл\.с\.|\bлс){_NUMBER_WORD}")
_DIRECT = re.compile(rf"(?:\bсч[её]т[а-яё]*|\b[рк]/сч?|\bр[. ]?с\.?){_NUMBER_WORD}")
_BIK = re.compile(r"\b04[0-9]{7}\b")
_IBAN = re.compile(r"(?<![^\W_])[a-z]{2}[0-9]{2}(?: ?[a-z0-9]{4}){2,7}(?: ?[a-z0-9]{1,3})?(?![^\W_])")


class Accounts:
    """Twenty digits; fewer directly after a word for an account."""

    entity = Entity.ACCOUNT
    lengths = frozenset(range(5, 23))

    def judge(self, number: NumberCandidate) -> int:
        count = len(number.digits)
        asked = number.context is Entity.ACCOUNT
        if count == 20:
            formed = number.digits[5:8] in _CURRENCIES and number.digits[0] in "34"
            return 3 if asked or formed or self._checks(number) else 0
        if not asked or number.ordinary:
            return 0
        if _CUSTOMER.search(number.before):
            return 2
        return 2 * int(count >= 8 and _DIRECT.search(number.before) is not None)

    def _checks(self, number: NumberCandidate) -> bool:
        banks = _BIK.findall(number.before) + _BIK.findall(number.after)
        return any(checks_account(number.digits, bank) for bank in banks)


def checks_account(digits: str, bik: str) -> bool:
    """Whether an account's check digit is right in the bank ``bik``, a correspondent's account too."""
    whole = ((bik[-3:] + digits), ("0" + bik[4:6] + digits))
    return any(
        sum(int(digit) * weight for digit, weight in zip(number, cycle((7, 1, 3)), strict=False)) % 10 == 0
        for number in whole
    )


def find_ibans(view: View) -> Iterator[PersonalFinding]:
    """International account numbers, by form and check digits."""
    for match in _IBAN.finditer(view.lower):
        iban = match[0].replace(" ", "")
        if (
            15 <= len(iban) <= 34
            and int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
        ):
            yield PersonalFinding(*view.original(*match.span()), Entity.ACCOUNT, iban)


def checks_iban(iban: str) -> bool:
    """Whether the two check digits of an IBAN in lower case are right: modulo 97, letters as 10 to 35."""
    return int("".join(str(int(char, 36)) for char in iban[4:] + iban[:4])) % 97 == 1
