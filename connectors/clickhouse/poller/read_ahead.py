"""Reads ahead: the next page is read while this one is processed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def one_ahead(following: Callable[[], Awaitable[T | None]]) -> AsyncGenerator[T, None]:
    """The results of ``following``, call by call, until it returns None; one call is always running.

    Close it (`contextlib.aclosing`), which ends that call. An exception is raised in the order of the calls.
    """

    async def call() -> T | None:
        return await following()

    coming = asyncio.create_task(call())
    try:
        while (page := await coming) is not None:
            coming = asyncio.create_task(call())
            yield page
            del page  # not kept while the next one is awaited
    finally:
        coming.cancel()
        await asyncio.wait([coming])
