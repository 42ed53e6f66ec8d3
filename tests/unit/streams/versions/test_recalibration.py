"""A version is fitted again and again, whatever goes wrong in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import structlog

from streams.core.errors import RefusedError, UnavailableError
from streams.core.settings import Settings
from streams.versions.recalibration import GROWTH, keep_calibrated


async def test_it_is_tried_again_after_every_pause_and_told_when_something_is_new() -> None:
    fitted = {"version": "v1", "generation": 1, "published": True}
    results: list[Any] = [
        RefusedError("too few"), UnavailableError("away"), None, {**fitted, "published": False}, fitted,
    ]  # fmt: skip
    pauses: list[float] = []

    async def attempt(_: Settings, version: str | None, *, growth: float) -> dict[str, Any] | None:
        assert (version, growth) == (None, GROWTH)
        found = results.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if not results:
            raise asyncio.CancelledError

    with structlog.testing.capture_logs() as lines, pytest.raises(asyncio.CancelledError):
        await keep_calibrated(Settings(), attempt=attempt, pause=pause)
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("calibration_not_fitted", "debug"),
        ("calibration_not_fitted", "warning"),
        ("calibration_fitted", "info"),
    ]
    assert pauses == [600.0] + [21_600.0] * 5
