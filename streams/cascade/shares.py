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
# Texts of a cascade that the model labels twice, and their share of all that it labelled: they cost calls, of
# which some proxies save none.
_MOST_TWICE, _MOST_TWICE_SHARE = 200, 0.02
_TWICE = 0.5


def part_of(version: str, text: str) -> Part:
    """The part of ``text`` among those that the model labelled."""
    return "teach" if number_of(f"part/{version}", text) < _TEACH else "certify"


def fit_at(generation: int) -> int:
    """How many distinct texts of the part `teach` there must be for ``generation``, 1, 2, ..."""
    return FIRST_FIT << generation - 1


def most_twice(texts: int) -> int:
    """How many texts the model may label twice in all when it has labelled ``texts``."""
    return min(_MOST_TWICE, int(texts * _MOST_TWICE_SHARE))


def is_asked_twice(version: str, text: str) -> bool:
    """Whether the model labels ``text`` twice, if it is one of the first that a proxy is sure of. Only texts
    that teach: what certifies must not choose how much is allowed.
    """
    return part_of(version, text) == "teach" and number_of(f"twice/{version}", text) < _TWICE
