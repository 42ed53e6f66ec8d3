"""Supervision: a role that ends is started again, and stopping leaves nobody behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from streams.runtime import supervisor as supervise
from streams.runtime.supervisor import Supervisor
from tests.waiting import PATIENCE, eventually

PROGRAM = """
import signal, sys, time
if {stubborn!r}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("started", flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    monkeypatch.setattr(supervise, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervise, "STOP_SECONDS", 1.0)
    return Supervisor(("plain", "stubborn"), os.environ, tmp_path)


async def started(tmp_path: Path, role: str, times: int) -> None:
    await eventually(lambda: (tmp_path / f"{role}.log").read_text().count("started") >= times)


async def test_a_role_that_ends_is_started_again_and_all_are_stopped(
    supervisor: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_exec = asyncio.create_subprocess_exec

    async def run_program(*command: str, **options: object) -> asyncio.subprocess.Process:
        program = PROGRAM.format(stubborn=command[-1] == "stubborn")
        return await plain_exec(sys.executable, "-c", program, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", run_program)
    for role in ("plain", "stubborn"):
        (tmp_path / f"{role}.log").touch()
    running = asyncio.create_task(supervisor.run())
    await started(tmp_path, "plain", 1)
    await started(tmp_path, "stubborn", 1)
    first = supervisor.pids["plain"]
    os.kill(first, signal.SIGKILL)
    await started(tmp_path, "plain", 2)
    pids = list(supervisor.pids.values())
    assert first not in pids
    assert len(pids) == 2
    running.cancel()
    await asyncio.wait([running], timeout=PATIENCE)
    assert running.done()
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
