"""One fault at a time: the n-th call of what a role asks of the outside world fails."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

P = TypeVar("P")


class Fault:
    """Raises ``error`` at call number ``at`` (from 1) of the watched methods; ``met``: at which it was."""

    def __init__(self, at: int, error: Exception) -> None:
        self.met = ""
        self._at = at
        self._error = error
        self._calls = 0

    def watch(self, part: P, *names: str) -> P:
        """Have the methods ``names`` of ``part`` count."""
        for name in names:
            setattr(part, name, self._watched(f"{type(part).__name__}.{name}", getattr(part, name)))
        return part

    def _call(self, name: str) -> None:
        self._calls += 1
        if self._calls == self._at:
            self.met = name
            raise self._error

    def _watched(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isasyncgenfunction(method):

            async def read(*arguments: Any, **named: Any) -> AsyncIterator[Any]:
                self._call(name)
                async for found in method(*arguments, **named):
                    yield found

            return read
        if inspect.iscoroutinefunction(method):

            async def ask(*arguments: Any, **named: Any) -> Any:
                self._call(name)
                return await method(*arguments, **named)

            return ask

        def do(*arguments: Any, **named: Any) -> Any:
            self._call(name)
            return method(*arguments, **named)

        return do
