"""How much a client may ask: requests a second, and bytes in a body."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from typing import Any

from connectors.api.problems import Problem

_MOST_CLIENTS = 10_000
Message = MutableMapping[str, Any]


class Rate:
    """A token bucket for each client: ``a_second`` tokens are added, at most ``burst`` are kept. 0:
    no limit.
    """

    def __init__(
        self, a_second: float, burst: float | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = a_second
        self._burst = max(1.0, 2 * a_second if burst is None else burst)
        self._clock = clock
        # Least recently seen first. A client that was forgotten begins with a full bucket.
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Let one request of ``client`` pass.

        Raises:
            Problem: 429, with the seconds until the next request is allowed.
        """
        if not self._rate:
            return
        now = self._clock()
        tokens, at = self._buckets.pop(client, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        passes = tokens >= 1.0
        self._buckets[client] = (tokens - 1.0 if passes else tokens, now)
        if len(self._buckets) > _MOST_CLIENTS:
            self._buckets.popitem(last=False)
        if not passes:
            seconds = max(1, round((1.0 - tokens) / self._rate + 0.5))
            raise Problem(
                429,
                f"more than {self._rate:g} requests a second",
                code="too-many-requests",
                headers={"Retry-After": str(seconds)},
            )


class Body:
    """Reads a request's body for the routes, and stops at one that is larger than ``most`` bytes."""

    def __init__(self, receive: Callable[[], Any], most: int) -> None:
        self._receive = receive
        self._most = most
        self._read = 0

    def declared(self, length: str | None) -> None:
        """Refuse by the header, before anything is read. Raises Problem 413, or 400 for no number."""
        if length is None:
            return
        if not (length.isascii() and length.isdigit()):
            raise Problem(400, "Content-Length is no number", code="bad-length")
        if int(length) > self._most:
            raise self._too_large()

    async def __call__(self) -> Message:
        message: Message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._most:
                raise self._too_large()
        return message

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self._most} bytes", code="too-large")
