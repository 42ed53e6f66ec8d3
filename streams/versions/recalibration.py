"""Keeps the current version calibrated while people judge more and more drawn rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from streams.core.errors import LabelstreamError, RefusedError
from streams.core.settings import Settings
from streams.versions.calibrate import calibrate

log = structlog.get_logger()

_FIRST_SECONDS, _SECONDS = 600.0, 21_600.0
# So many times the rows of the last fit make a new one: there are ever fewer, and each is known better.
GROWTH = 1.25


async def keep_calibrated(
    settings: Settings,
    *,
    attempt: Callable[..., Awaitable[dict[str, Any] | None]] = calibrate,
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Fit the current version every six hours, if there are enough new rows, until cancelled."""
    await pause(_FIRST_SECONDS)
    while True:
        try:
            found = await attempt(settings, None, growth=GROWTH)
        except RefusedError as error:  # too few rows, or no version yet
            log.debug("calibration_not_fitted", why=str(error))
        except LabelstreamError as error:
            log.warning("calibration_not_fitted", why=str(error))
        else:
            if found is not None and found["published"]:
                log.info("calibration_fitted", **found)
        await pause(_SECONDS)
