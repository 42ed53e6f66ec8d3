"""Equal questions share one call in flight, and a bounded cache of answers.

Keys and answers are bytes, so that the bound can be given in bytes: about 300 an entry for a label.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

# Python's overhead for a key and an answer: two object headers and an entry of the table.
_ENTRY_BYTES = 170


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
        # Of calls in flight, for those who wait: the answer, or None if nobody asks any more.
        self._calls: dict[bytes, asyncio.Future[bytes | None]] = {}
        # Counts of answers from the cache, from another caller's call, and from a call of their own.
        self.results = {"hit": 0, "shared": 0, "miss": 0}

    @property
    def size(self) -> int:
        """Number of cached answers."""
        return len(self._young) + sum(key not in self._young for key in self._old)

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer, and whether it came without a call of its own.

        The first caller asks, in its own task. If it is cancelled, one of those who wait asks anew.
        """
        result = ""
        while True:
            known = self._young.get(key)
            if known is None and (known := self._old.get(key)) is not None:
                self.warm(key, known)  # move it to the young generation
            if known is not None:
                self.results[result or "hit"] += 1
                return known, True
            call = self._calls.get(key)
            if call is None:
                self.results["miss"] += 1
                return await self._ask(key, ask), False
            result = "shared"
            answer = await asyncio.shield(call)
            if answer is not None:
                self.results["shared"] += 1
                return answer, True

    def known(self, key: bytes) -> bytes | None:
        """The answer, if it is cached."""
        answer = self._young.get(key)
        return self._old.get(key) if answer is None else answer

    def warm(self, key: bytes, answer: bytes) -> None:
        """Cache an answer that is known from elsewhere."""
        if key not in self._young:
            self._young_bytes += len(key) + len(answer) + _ENTRY_BYTES
        # A copy of exact length: bytes from orjson keep their buffer of a kilobyte.
        self._young[key] = bytes(memoryview(answer))
        if self._young_bytes * 2 > self._most_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> bytes:
        call = self._calls[key] = asyncio.get_running_loop().create_future()
        try:
            answer = await ask()
        except BaseException as error:
            del self._calls[key]
            if isinstance(error, Exception):
                call.set_exception(error)
                call.exception()  # nobody may wait for it
            else:
                call.set_result(None)
            raise
        del self._calls[key]
        self.warm(key, answer)
        call.set_result(answer)
        return answer


class Uncached:
    """No answers: every question is asked."""

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer, by a call of its own."""
        return await ask(), False

    def known(self, key: bytes) -> bytes | None:
        """None."""
        return None


class Beside:
    """The same answers for callers whose calls nobody else should wait for: those have less priority."""

    def __init__(self, answers: Shared) -> None:
        self._answers = answers
        self._own = Shared(_ENTRY_BYTES)  # for calls in flight

    async def get(self, key: bytes, ask: Callable[[], Awaitable[bytes]]) -> tuple[bytes, bool]:
        """The answer, and whether it came without a call of its own."""
        if (known := self._answers.known(key)) is not None:
            return known, True
        answer, shared = await self._own.get(key, ask)
        if self._answers.known(key) is None:
            self._answers.warm(key, answer)
        return answer, shared

    def known(self, key: bytes) -> bytes | None:
        """As `Shared.known`."""
        return self._answers.known(key)
