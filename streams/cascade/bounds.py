"""Bounds of a share, from how often something was seen: exact ones, by Clopper and Pearson (1934)."""

from __future__ import annotations

import math

_STEPS = 50


def upper_bound(hits: int, rows: int, risk: float) -> float:
    """The share, 0..1, that the true one exceeds with probability at most ``risk``; 1 without rows."""
    return 1.0 - lower_bound(rows - hits, rows, risk)


def lower_bound(hits: int, rows: int, risk: float) -> float:
    """The share, 0..1, below which the true one is with probability at most ``risk``; 0 without rows."""
    if hits == 0:
        return 0.0
    low, high = 0.0, hits / rows
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if _at_least(hits, rows, middle) > risk else (middle, high)
    return low


def _at_least(hits: int, rows: int, share: float) -> float:
    """The probability of ``hits`` or more of ``rows``; all terms from there on, or all below."""
    if share <= 0:
        return 0.0
    term = (
        math.exp(
            math.lgamma(rows + 1)
            - math.lgamma(hits + 1)
            - math.lgamma(rows - hits + 1)
            + hits * math.log(share)
            + (rows - hits) * math.log1p(-share)
        )
        if share < 1
        else 1.0
    )
    total, odds = term, share / (1 - share)
    for at in range(hits, rows):
        term *= (rows - at) / (at + 1) * odds
        total += term
        if term < total * 1e-12:
            break
    return min(1.0, total)
