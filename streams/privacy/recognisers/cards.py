"""Bank cards: the number's length, first digit and check digit (Luhn)."""

from __future__ import annotations

from streams.privacy.entities import Entity
from streams.privacy.recognisers.numbers import NumberCandidate


class Cards:
    """Numbers of 13 to 19 digits."""

    entity = Entity.CARD
    lengths = frozenset(range(13, 20))

    def judge(self, number: NumberCandidate) -> int:
        digits, count = number.digits, len(number.digits)
        asked = number.context is Entity.CARD
        if passes_luhn(digits):
            if count == 16 and digits[0] in "23456":
                return 3
            if count == 15 and digits.startswith(("34", "37")):
                return 3
            if count >= 18 and digits[0] in "2456" and not number.ordinary:
                return 2
        if number.groups == (4, 4, 4, 4) and digits[0] in "23456" and not number.ordinary:
            return 2  # with a slip in a digit
        if asked and count >= 15:
            return 2
        return int(count == 16 and number.groups == (16,) and digits[0] in "245" and not number.ordinary)


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    doubled = (sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2])
    return (sum(int(digit) for digit in digits[-1::-2]) + sum(doubled)) % 10 == 0
