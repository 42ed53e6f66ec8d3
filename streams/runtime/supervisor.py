"""Roles as child processes of one command, restarted when they fail (`labelstream run all`, the demo)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

log = structlog.get_logger()

STOP_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 15.0
_HEALTHY_SECONDS = 30.0


class Supervisor:
    """Runs ``labelstream run ROLE`` for each role until it is stopped."""

    def __init__(
        self, roles: Sequence[str], environment: Mapping[str, str], logs: Path | None = None
    ) -> None:
        self._roles = tuple(roles)
        self._environment = dict(environment)
        self._logs = logs
        self.restarts: Counter[str] = Counter()
        self._children: dict[str, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()

    @property
    def pids(self) -> dict[str, int]:
        """The pids of the running roles."""
        return {role: child.pid for role, child in self._children.items() if child.returncode is None}

    async def run(self) -> None:
        """Run until cancelled or stopped; then stop every child by SIGTERM, and after 10 s by SIGKILL."""
        tasks = [asyncio.create_task(self._keep(role)) for role in self._roles]
        try:
            await asyncio.gather(*tasks)
        finally:
            self._stopping.set()
            for task in tasks:
                task.cancel()
            await self._stop_children()

    def stop(self) -> None:
        """Make `run` end."""
        self._stopping.set()
        for child in self._children.values():
            _signal(child, signal.SIGTERM)

    async def _keep(self, role: str) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            child = await self._start(role)
            code = await child.wait()
            if self._stopping.is_set():
                return
            if time.monotonic() - started > _HEALTHY_SECONDS:
                pause = _FIRST_PAUSE
            self.restarts[role] += 1
            log.warning("role_restarted", role=role, exit_code=code, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _start(self, role: str) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "streams.cli", "run", role]
        if self._logs is None:
            child = await asyncio.create_subprocess_exec(*command, env=self._environment)
        else:
            self._logs.mkdir(parents=True, exist_ok=True)
            with (self._logs / f"{role.split('-')[0]}.log").open("ab") as file:
                child = await asyncio.create_subprocess_exec(
                    *command,
                    env=self._environment,
                    stdout=file,
                    stderr=file,
                    stdin=asyncio.subprocess.DEVNULL,
                )
        self._children[role] = child
        return child

    async def _stop_children(self) -> None:
        alive = [child for child in self._children.values() if child.returncode is None]
        for child in alive:
            _signal(child, signal.SIGTERM)
        if alive:
            await asyncio.wait([asyncio.create_task(child.wait()) for child in alive], timeout=STOP_SECONDS)
        for child in alive:
            if child.returncode is None:
                _signal(child, signal.SIGKILL)
                await child.wait()


def _signal(child: asyncio.subprocess.Process, number: int) -> None:
    if child.returncode is None:
        try:
            os.kill(child.pid, number)
        except ProcessLookupError:
            return
