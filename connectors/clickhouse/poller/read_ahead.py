"""Reading ahead: the next page comes while this one is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def one_ahead(following: Callable[[], Awaitable[T | None]]) -> AsyncGenerator[T, None]:
    """What ``following`` gives, call by call, until it gives None; one call is always under way.

    To be closed (`contextlib.aclosing`), which ends that call. What it raises comes when its turn does.
    """

    async def call() -> T | None:
        return await following()

    coming = asyncio.create_task(call())
    try:
        while (page := await coming) is not None:
            coming = asyncio.create_task(call())
            yield page
            del page  # not to be kept while the next is waited for
    finally:
        coming.cancel()
        await asyncio.wait([coming])
