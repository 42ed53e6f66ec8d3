"""Tasks whose exceptions are always handled, also of those in the background.

asyncio reports an exception that nobody retrieved only when the task is garbage collected, which may be
never. Meanwhile everything that relies on the task waits.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


def in_background(
    work: Coroutine[Any, Any, None], name: str, failed: Callable[[Exception], None] | None = None
) -> asyncio.Task[None]:
    """A task of ``work``. An exception is logged at once under ``name`` and passed to ``failed``. The caller
    keeps a reference to the task: the event loop holds it only weakly.
    """

    async def owned() -> None:
        try:
            await work
        except Exception as error:
            log.exception("task_failed", task=name)
            if failed is not None:
                failed(error)

    return asyncio.get_running_loop().create_task(owned(), name=name)


def apart(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that belongs to no row, whichever happened to start it: its log lines name none, and no row's
    end cancels it.
    """
    return asyncio.get_running_loop().create_task(work, context=contextvars.Context())


async def gathered(works: Iterable[Awaitable[T]]) -> list[T]:
    """The results of ``works``, done at the same time. If some fail, the first error is raised when all have
    ended.
    """
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
