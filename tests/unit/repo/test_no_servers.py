"""A unit test that would start a server is stopped, whichever way it goes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.local import processes
from connectors.local.stack import LocalStack


def _in_the_background(*words: str) -> None:
    async def start() -> None:
        await asyncio.create_subprocess_exec(*words)

    asyncio.run(start())


@pytest.mark.parametrize(
    "start",
    [
        lambda folder: LocalStack(folder).up(kafka=False, clickhouse=False),
        lambda folder: LocalStack(folder).up(kafka=False, llm=False),
        lambda folder: processes.start(["/nowhere/java", "kafka.Kafka"], folder / "log"),
        lambda folder: subprocess.run([sys.executable, "-m", "streams.cli", "demo"], check=False),
        lambda folder: subprocess.run(["labelstream", "local", "up"], check=False),
        lambda folder: _in_the_background("chromium", "--headless"),
        lambda folder: __import__("chdb"),
    ],
)
def test_it_is_stopped(start: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="belongs to tests/integration"):
        start(tmp_path)


def test_other_programs_run() -> None:
    done = subprocess.run([sys.executable, "-c", "print('demo')"], capture_output=True, check=True)
    assert done.stdout == b"demo\n"
