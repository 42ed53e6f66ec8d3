"""Which texts teach a generation, and which certify it; and when the next one is due.

A text's part is by its hash, the same in all generations and processes. Texts of the part `certify`, and
those that people answered because the audit drew them, teach no generation and certify every one. A text
of the part `teach` certifies the generation that was fitted before the text came, and teaches the next.

Only texts certify that the model would have labelled in any case: while no proxy routes, all; else those that
`is_audited` draws. What came to the model because a proxy was unsure teaches, and certifies nothing.
"""

from __future__ import annotations

from typing import Literal

from agents.proxy.audited import number_of

Part = Literal["teach", "certify"]
# Texts that teach a generation; the next is due when there are twice as many.
FIRST_FIT = 1_000
_TEACH = 0.90


def part_of(version: str, text: str) -> Part:
    """The part of ``text`` among those that the model labelled."""
    return "teach" if number_of(f"part/{version}", text) < _TEACH else "certify"


def fit_at(generation: int) -> int:
    """How many distinct texts of the part `teach` there must be for ``generation``, 1, 2, ..."""
    return FIRST_FIT << generation - 1
