"""How far two people agree beyond chance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from streams.ports.review import AUDIT, NOT_SURE, HumanAnswer


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of the answers of two people about the same rows, from -1 to 1.

    None where there is nothing to compare: no pairs, or all answers are one and the same.
    """
    if not pairs:
        return None
    agreed = sum(one == other for one, other in pairs) / len(pairs)
    first, second = (Counter(pair[side] for pair in pairs) for side in (0, 1))
    by_chance = sum(first[answer] * second[answer] for answer in first) / len(pairs) ** 2
    return None if by_chance == 1.0 else (agreed - by_chance) / (1.0 - by_chance)


def answered_twice(answers: Iterable[HumanAnswer]) -> list[tuple[str, str]]:
    """The first two answers of each row that two people answered in the audit, in order of time.

    An answer is its label, or `no-label`. "Not sure" is no judgement, and is left out.
    """
    rows: dict[tuple[object, str], list[HumanAnswer]] = {}
    for one in answers:
        if one.drawn_by == AUDIT and one.answer != NOT_SURE:
            rows.setdefault((one.created_at, one.row_id), []).append(one)
    pairs: list[tuple[str, str]] = []
    for both in rows.values():
        if len(both) > 1:
            first, second, *_ = sorted(both, key=lambda one: one.answered_at)
            pairs.append((first.label or first.answer, second.label or second.answer))
    return pairs
