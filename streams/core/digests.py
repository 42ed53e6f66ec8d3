"""A set that keeps 8 bytes an item."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

_MOST_RECENT = 50_000


class DigestSet:
    """Items by their hash, of 64 bits and of this process: two of them count as one with the same hash."""

    def __init__(self) -> None:
        self._recent: set[int] = set()
        self._sorted: Any = np.empty(0, np.int64)

    def add(self, item: Hashable) -> None:
        """Add it."""
        self._recent.add(hash(item))
        if len(self._recent) > _MOST_RECENT + len(self._sorted) // 4:
            found = np.fromiter(self._recent, np.int64, len(self._recent))
            self._sorted = np.union1d(self._sorted, found)
            self._recent = set()

    def __contains__(self, item: Hashable) -> bool:
        digest = hash(item)
        if digest in self._recent:
            return True
        at = int(np.searchsorted(self._sorted, digest))
        return at < len(self._sorted) and int(self._sorted[at]) == digest

    def __bool__(self) -> bool:
        return bool(self._recent) or len(self._sorted) > 0
