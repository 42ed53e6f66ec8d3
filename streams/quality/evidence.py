"""Evidence that may be looked at after every row: how strongly the rows so far speak against a version.

Each number is an e-value: what a gambler has made of one unit who stakes on each row that the version is
worse (Waudby-Smith and Ramdas, 2024, "Estimating means of bounded random variables by betting"). If it is
not worse, the stakes favour the bank, and whoever looks as often as he likes ever sees `LIMIT` with a
probability of at most 1 / `LIMIT` (Ville's inequality). The gambler divides his unit over fixed stakes, so
the order of the rows does not matter, and the number can be made anew at each look from the counts alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

# An equal version is stopped at most once in so many canaries.
LIMIT = 20.0
# Of calls that fail: a few of them must not end a canary.
FAILURE_LIMIT = 1_000.0
FEWEST_FAILURES = 5
FAILURES_ALLOWED = 0.02
# The best stake is the loss divided by the share of rows that differ: 0.5 for five points of loss with one
# row of ten that differs, 0.125 with four of ten. So they are spread evenly by their logarithms.
_STAKES = tuple(0.08 * (0.95 / 0.08) ** (number / 39) for number in range(40))
# More digits than these make no more kinds of rows.
_DIGITS = 4


def loss_evidence(differences: Iterable[tuple[float, float]]) -> float:
    """How strongly paired rows say that a candidate is right less often than the version beside it.

    ``differences``: of each row 1 if only the candidate is right, -1 if only the other one is, else 0; and
    its weight, 1 / the probability with which it was drawn. The weights of rows that were all drawn with one
    probability are without effect.
    """
    some = [(won, weight) for won, weight in differences if weight > 0]
    most = max((weight for _, weight in some), default=1.0)
    kinds = Counter(round(won * weight / most, _DIGITS) for won, weight in some if won)
    return _mixture(
        sum(count * math.log1p(-stake * gain) for gain, count in kinds.items()) for stake in _STAKES
    )


def failure_evidence(failed: int, answered: int) -> float:
    """How strongly ``failed`` calls beside ``answered`` ones say that more than `FAILURES_ALLOWED` fail."""
    gain = (1 - FAILURES_ALLOWED) / FAILURES_ALLOWED
    return _mixture(failed * math.log1p(stake * gain) + answered * math.log1p(-stake) for stake in _STAKES)


def fails_too_often(failed: int, answered: int) -> bool:
    """Whether a version is to be stopped for its failures."""
    return failed >= FEWEST_FAILURES and failure_evidence(failed, answered) >= FAILURE_LIMIT


def _mixture(logarithms: Iterable[float]) -> float:
    """The mean of numbers by their logarithms; not infinite, so that it is a number in JSON."""
    found = list(logarithms)
    most = max(found)
    total = sum(math.exp(one - most) for one in found) / len(found)
    return math.exp(min(most + math.log(total), 200.0))
