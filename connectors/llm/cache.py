"""Equal questions share one call in flight, and a bounded cache of answers.

Keys and answers are bytes, so that the bound can be given in bytes: about 300 an entry for a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# Python's overhead for a key and an answer: two object headers and an entry of the table.
_ENTRY_BYTES = 170


class _Call:
    """A call in flight, and the number of callers that wait for it."""

    __slots__ = ("task", "waiting")

    def __init__(self, task: asyncio.Task[bytes]) -> None:
        self.task = task
        self.waiting = 0


class Shared:
    """Answers by key. Failures are not cached.

    There are two generations. When the young one has reached half of the bound, it becomes the old one, and
    the former old one is dropped. An answer that is used moves to the young one, so unused answers are
    dropped.
    """

    def __init__(self, most_bytes: int = 32 * 2**20) -> None:
        self._most_bytes = most_bytes
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}
        self._young_bytes = 0
        self._calls: dict[bytes, _Call] = {}
        # Counts of answers from the cache, from another caller's call, and from a call of their own.
        self.results = {"hit": 0, "shared": 0, "miss": 0}

    @property
    def size(self) -> int:
        """Number of cached answers."""
        return len(self._young) + sum(key not in self._young for key in self._old)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer, and whether it came without a call of its own.

        If a caller is cancelled, the call goes on for the others who wait for it, and is cancelled if there
        are none.
        """
        known = self._young.get(key)
        if known is None and (known := self._old.get(key)) is not None:
            self.warm(key, known)  # move it to the young generation
        if known is not None:
            self.results["hit"] += 1
            return known, True
        call = self._calls.get(key)
        mine = call is None
        self.results["miss" if mine else "shared"] += 1
        if call is None:
            call = self._calls[key] = _Call(asyncio.ensure_future(self._ask(key, ask)))
        call.waiting += 1
        try:
            return await asyncio.shield(call.task), not mine
        except asyncio.CancelledError:
            if call.waiting == 1 and not call.task.done():
                # Callers from now on start a new call.
                self._forget(key, call)
                call.task.cancel()
            raise
        finally:
            call.waiting -= 1

    def warm(self, key: bytes, answer: bytes) -> None:
        """Cache an answer that is known from elsewhere."""
        if key not in self._young:
            self._young_bytes += len(key) + len(answer) + _ENTRY_BYTES
        # A copy of exact length: bytes from orjson keep their buffer of a kilobyte.
        self._young[key] = bytes(memoryview(answer))
        if self._young_bytes * 2 > self._most_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        call = self._calls[key]
        try:
            answer = await ask()
            self.warm(key, answer)
            return answer
        finally:
            self._forget(key, call)

    def _forget(self, key: bytes, call: _Call) -> None:
        if self._calls.get(key) is call:
            del self._calls[key]
