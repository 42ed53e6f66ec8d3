"""What the makers of personal data share."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Random = random.Random
# Makes what is said, and the personal data within it.
Maker = Callable[[Random], tuple[str, str]]


def listed(words: str) -> list[str]:
    return words.split()


def digits(random: Random, count: int) -> str:
    return "".join(random.choice("0123456789") for _ in range(count))


def in_groups(number: str, sizes: Sequence[int], gap: str) -> str:
    parts = []
    for size in sizes:
        parts.append(number[:size])
        number = number[size:]
    return gap.join([*parts, number] if number else parts)


def say(random: Random, value: str, contexts: Sequence[str]) -> tuple[str, str]:
    """``value`` behind, or before, one of the contexts; ``X`` is its place."""
    return random.choice(contexts).replace("X", value), value
