"""Telephone numbers: Russian ones in any grouping, foreign ones with a plus or a neighbour's code."""

from __future__ import annotations

import re

from streams.privacy.entities import Entity
from streams.privacy.recognisers.numbers import NumberCandidate

# Codes of Russian regions; mobile numbers begin with 9, Kazakh ones with 7.
_REGION = re.compile(
    "30[12]|34[1-7]|35[1-3]|38[1-8]|39[0145]|4[0-2][1-9]|47[1-5]|48[1-7]|49[1-9]|8[0-7][0-9]"
)
# Codes of neighbouring countries, written without a plus as well.
_NEIGHBOURS = ("375", "380", "998", "996", "995", "994", "993", "992", "374", "373")
_LOCAL = ((3, 2, 2), (3, 4), (1, 2, 2, 2))


class Phones:
    """Numbers of 6 to 15 digits."""

    entity = Entity.PHONE
    lengths = frozenset(range(6, 16))

    def judge(self, number: NumberCandidate) -> int:
        digits, count = number.digits, len(number.digits)
        asked = number.context is Entity.PHONE
        if number.before.endswith(("+", "+(")) and count >= 10:
            return 3
        if count == 11 and digits[0] in "78":
            return self._national(digits[1:], number, asked)
        if count == 10:
            return self._without_prefix(digits, number, asked)
        if count in (11, 12) and digits.startswith(_NEIGHBOURS):
            return 2 if asked or not number.ordinary else 0
        asked = asked and number.close
        if asked and 9 <= count <= 12:
            return 1  # a digit too many or too few
        if count == 7 and (asked or (number.groups in _LOCAL[:1] and number.gaps == "--")):
            return 0 if number.ordinary else 1
        formed = number.groups in ((2, 2, 2), (3, 3)) and number.gaps.strip("- ") == ""
        return int(asked and count == 6 and formed and not number.ordinary)

    def _national(self, digits: str, number: NumberCandidate, asked: bool) -> int:
        if digits[0] == "9":
            return 3
        if _REGION.match(digits) or digits[0] == "7":
            return 2 if asked or not number.ordinary else 0
        return int(asked)

    def _without_prefix(self, digits: str, number: NumberCandidate, asked: bool) -> int:
        if digits[0] == "9" and (asked or not number.ordinary):
            return 2
        if _REGION.match(digits) and (asked or (number.groups[0] == 3 and not number.ordinary)):
            return 2
        return int(asked)
