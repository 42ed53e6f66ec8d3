"""Equal questions share one call in flight, and a bounded memory of answers."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Shared(Generic[K, V]):
    """Answers by key, least recently used out first. Failures are not remembered."""

    def __init__(self, most: int = 50_000) -> None:
        self._most = most
        self._answers: OrderedDict[K, V] = OrderedDict()
        self._calls: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, ask: Callable[[], Awaitable[V]]) -> tuple[V, bool]:
        """The answer, and whether it came without a call of one's own.

        A caller that is cancelled leaves the call to those who wait for it, and to the memory.
        """
        if key in self._answers:
            self._answers.move_to_end(key)
            return self._answers[key], True
        call = self._calls.get(key)
        mine = call is None
        if call is None:
            call = asyncio.ensure_future(self._ask(key, ask))
            self._calls[key] = call
            call.add_done_callback(lambda done: self._settle(key, done))
        return await asyncio.shield(call), not mine

    async def _ask(self, key: K, ask: Callable[[], Awaitable[V]]) -> V:
        answer = await ask()
        self._answers[key] = answer
        if len(self._answers) > self._most:
            self._answers.popitem(last=False)
        return answer

    def _settle(self, key: K, call: asyncio.Task[V]) -> None:
        self._calls.pop(key, None)
        if not call.cancelled():
            call.exception()  # seen, even if every caller has gone
