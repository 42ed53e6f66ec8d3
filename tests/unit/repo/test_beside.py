"""What is shipped beside the product: the subscriber to copy, the health check of the image."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from streams.observability.health import Health, served
from tests.unit.repo.command_lines import ROOT, health_check
from tests.waiting import PATIENCE


def test_the_subscriber_fits_a_screen() -> None:
    assert len((ROOT / "examples" / "subscribe.py").read_text("utf-8").splitlines()) <= 20


@pytest.mark.parametrize("stalled", ["", "no progress for 60 s"])
async def test_the_image_s_health_check_asks_the_role(tmp_path: Path, stalled: str) -> None:
    python, *arguments = health_check()
    assert python == "python"
    health = Health("agents")
    health.stalled = stalled
    async with served(health, "127.0.0.1", 0, tmp_path) as url, asyncio.timeout(PATIENCE):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env={**os.environ, "HEALTH_PORT": url.rpartition(":")[2]},
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert (await process.wait() == 0) is (not stalled)
