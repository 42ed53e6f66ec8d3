"""What the calls of the last moments say about a failed one: is it the text, or the endpoint?

Pure arithmetic, without sockets or tasks; `docs/internals/who-is-to-blame.md` explains it.

A text is compared with the *first* calls of other texts that ended just before and just after each of its
failures. Among ``n`` such calls, ``f`` failed. If the text is like the others, its call and those ``n`` are
interchangeable, so ``(n + 1) / (f + 1)`` has a mean of at most 1. The calls after a failure are compared once
only. So the product of these numbers over a text's failures in a row is a supermartingale, and exceeds one
million with a probability below 1e-6, however often it is looked at (Ville's inequality).
"""

from __future__ import annotations

import bisect
import itertools
import math
import operator
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

# The nearest calls on each side follow a change of the endpoint; the wide range averages over changes that
# are faster than the text's tries. The larger failure rate counts.
_NEAR, _WIDE = 32, 1024
_RECENT_SECONDS = 60.0
# The endpoint is suspected after so many other texts failed in a row; more if some fail anyway.
_FEWEST_IN_A_ROW = 3
_CHANCE_OF_SUSPICION = 1e-3
_RATE_CALLS = 256


class Call(NamedTuple):
    """The first call of a text. ``text`` identifies it; ``ended`` in seconds of a monotonic clock. ``last``:
    there is no other question to ask for it.
    """

    text: int
    ended: float
    answered: bool
    last: bool = True


class Evidence:
    """The calls of one request form at one endpoint."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque(maxlen=2 * _WIDE)
        self._in_a_row: set[int] = set()  # the texts whose first calls failed since the last answer
        self.answered_at = -math.inf

    def answered(self, text: int, now: float, *, first: bool) -> None:
        """A call was answered; ``first``: the first one of its text."""
        self.answered_at = now
        self._in_a_row.clear()
        if first:
            self._calls.append(Call(text, now, True))

    def failed(self, text: int, now: float, *, in_a_row: bool = True) -> None:
        """The first call of a text failed. ``in_a_row``: it may be that all fail."""
        if in_a_row:
            self._in_a_row.add(text)
        self._calls.append(Call(text, now, False, in_a_row))

    @property
    def suspicious(self) -> bool:
        """Whether so many different texts failed in a row that a harmless text should be tried."""
        failed = len(self._in_a_row)
        if failed < _FEWEST_IN_A_ROW:
            return False
        # Answers to a first question that cannot be read tell nothing: there are models that only answer the
        # second one, and where that is not answered either, all fail.
        deciding = (call for call in reversed(self._calls) if call.answered or call.last)
        before = list(itertools.islice(deciding, failed, failed + _RATE_CALLS))
        rate = sum(not call.answered for call in before) / max(len(before), 1)
        return rate**failed < _CHANCE_OF_SUSPICION

    def others_after(self, text: int, ended: float) -> int:
        """The number of first calls of other texts that ended after ``ended``."""
        later = itertools.takewhile(lambda call: call.ended > ended, reversed(self._calls))
        return sum(call.text != text for call in later)

    def against(self, text: int, ended: float) -> float:
        """How much a failure of ``text`` that ended at ``ended`` speaks against it, as a natural logarithm: 0
        if others failed as well. To be called once, when the text is about to be tried again.
        """
        calls = list(self._calls)
        end = bisect.bisect_right(calls, ended, key=_ended)
        begin = bisect.bisect_left(calls, ended - _RECENT_SECONDS, hi=end, key=_ended)
        sides = calls[max(begin, end - _WIDE) : end][::-1], calls[end : end + _WIDE]
        return -math.log(max(_bound(side, text) for side in sides))


_ended = operator.attrgetter("ended")


def _bound(side: Sequence[Call], text: int) -> float:
    """A conservative failure rate among the calls of other texts, the nearest call first: as if one more had
    failed.
    """
    answers = [call.answered for call in side if call.text != text]
    near = answers[:_NEAR]
    return max((some.count(False) + 1) / (len(some) + 1) for some in (near, answers))
