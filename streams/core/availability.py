"""Waits for a dependency, and logs once when it is missing and once when it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from streams.core.errors import ConfigurationError, LabelstreamError, RetryableError, UnavailableError

log = structlog.get_logger()

T = TypeVar("T")
_FIRST, _LONGEST = 0.25, 3.0


async def until_available(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """The result of ``attempt``, which is repeated until its dependency is available.

    Waits for what is down and for what a person must change; both may be solved without a restart.

    Raises:
        PermanentError: it will never work.
    """
    said = ""
    pause = _FIRST
    while True:
        try:
            result = await attempt()
        except (RetryableError, ConfigurationError) as error:
            kind = _kind(error)
            if kind != said:
                said = kind
                log.warning(
                    f"waiting for {what}",
                    reason=str(error),
                    setting=getattr(error, "setting", "") or None,
                    fix=getattr(error, "fix", "") or None,
                )
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)
        else:
            if said:
                log.info(f"{what} is there")
            return result


def _kind(error: LabelstreamError) -> str:
    setting = error.setting if isinstance(error, (UnavailableError, ConfigurationError)) else ""
    return f"{type(error).__name__}/{setting}"
