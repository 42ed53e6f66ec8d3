"""Large sets of digests."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

_DIGEST = np.dtype("S16")  # compared byte by byte; all are equally long, so that a last zero counts as well


def key_digest(row_id: str, at: str | bytes | int) -> bytes:
    """16 bytes for a row: its id, and its time in whatever form."""
    told = at if isinstance(at, bytes) else str(at).encode()
    return blake2b(row_id.encode("utf-8", "replace") + b"\0" + told, digest_size=16).digest()


class Digests:
    """A large set of 16-byte digests: all but the newest are in sorted arrays, with 16 bytes each."""

    def __init__(self, unsorted: int = 20_000) -> None:
        """``unsorted``: how many are kept before they are sorted."""
        self._most = unsorted
        self._new: set[bytes] = set()
        self._sorted: list[Any] = []  # each twice as long as the next, or longer

    def __contains__(self, digest: bytes) -> bool:
        if digest in self._new:
            return True
        if not self._sorted:
            return False
        wanted = np.frombuffer(digest, _DIGEST)
        return any(
            (at := int(np.searchsorted(some, wanted)[0])) < len(some) and some[at] == wanted[0]
            for some in self._sorted
        )

    def add(self, digest: bytes) -> None:
        self._new.add(digest)
        if len(self._new) >= self._most:
            more = np.sort(np.frombuffer(b"".join(self._new), _DIGEST))
            self._new = set()
            while self._sorted and len(self._sorted[-1]) < 2 * len(more):
                more = np.union1d(self._sorted.pop(), more)
            self._sorted.append(more)
