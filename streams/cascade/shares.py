"""Which texts teach a generation, which choose its thresholds, which certify it; and when the next is due.

A text's part is by its hash, the same in all generations and processes. Texts that people answered because
the audit drew them are in no part: they certify every generation, and teach none.
"""

from __future__ import annotations

from typing import Literal

from agents.proxy.audited import number_of

Part = Literal["teach", "select", "certify"]
# Texts that teach a generation; the next is due when there are twice as many.
FIRST_FIT = 1_000
_TEACH, _SELECT = 0.70, 0.15


def part_of(version: str, text: str) -> Part:
    """The part of ``text`` among those that the model labelled."""
    number = number_of(f"part/{version}", text)
    return "teach" if number < _TEACH else "select" if number < _TEACH + _SELECT else "certify"


def fit_at(generation: int) -> int:
    """How many distinct texts of the part `teach` there must be for ``generation``, 1, 2, ..."""
    return FIRST_FIT << generation - 1
