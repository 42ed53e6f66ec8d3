"""The roles of a run as processes, which can be killed, paused, asked to leave, and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

import psutil

from tests.waiting import MachineClock

_REPOSITORY = Path(__file__).resolve().parents[2]
LEAVE_SECONDS = 10.0


class Process(Protocol):
    """What is used of `subprocess.Popen`."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, number: int, /) -> None: ...
    def kill(self) -> None: ...


def launch(words: Sequence[str], environment: Mapping[str, str], folder: Path, log: int) -> Process:
    """Start `labelstream` with the words; ``log``: the file descriptor for what it writes."""
    return subprocess.Popen(
        [sys.executable, "-m", "streams.cli", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )


class Actor:
    """One place for a process of a role; ``name`` is the role and a number."""

    # Tests fork processes, which takes less CPU; programs that tell a role's memory do not.
    launch: ClassVar[Callable[[Sequence[str], Mapping[str, str], Path, int], Process]] = staticmethod(launch)

    def __init__(self, name: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.role = name.partition("-")[0]
        self.log = folder / "logs" / f"{name}.log"
        self.wanted = False  # whether it should run now
        self.exits: list[int] = []
        self._folder = folder / name
        self._environment = {
            **{key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "LANG", "TMPDIR")},
            "PYTHONPATH": str(_REPOSITORY),
            "LABELSTREAM_DATA": str(self._folder),
            **environment,
        }
        self._process: Process | None = None

    def start(self) -> None:
        """Start the process unless it runs."""
        self.wanted = True
        if self.running:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._process = self._launched("run", self.role)

    def run(self, *words: str) -> tuple[int, str]:
        """A command in the same environment, to its end: its exit code and what the log has then."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        process = self._launched(*words)
        return process.wait(), self.log.read_text("utf-8", "replace")

    def _launched(self, *words: str) -> Process:
        with self.log.open("ab") as log:
            return type(self).launch(words, self._environment, self._folder, log.fileno())

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def rss(self) -> int:
        """Resident bytes; 0 while it does not run."""
        with contextlib.suppress(psutil.Error):
            if self.running and self.pid:
                return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    def collect(self) -> int | None:
        """The exit code of a process that ended by itself since the last look."""
        if self._process is None or (code := self._process.poll()) is None:
            return None
        self._process = None
        self.exits.append(code)
        return code

    def kill(self) -> int | None:
        """kill -9; returns the id that the process had."""
        pid = self.pid
        if self.running and self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = None
        return pid

    def pause(self) -> int | None:
        """SIGSTOP; returns the process's id, for `resume`."""
        if self.running and self.pid:
            os.kill(self.pid, signal.SIGSTOP)
            return self.pid
        return None

    def resume(self, pid: int | None) -> None:
        """SIGCONT, if it is still the process that was paused."""
        if pid is not None and self.running and pid == self.pid:
            os.kill(pid, signal.SIGCONT)

    def ask_to_leave(self) -> None:
        """SIGTERM."""
        self.wanted = False
        if self.running and self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def leave(self, seconds: float = LEAVE_SECONDS) -> float | None:
        """SIGTERM and wait; returns how long it took, None if it had to be killed."""
        clock = MachineClock()
        self.ask_to_leave()
        while self.running:
            if clock.seconds() > seconds:
                self.kill()
                return None
            time.sleep(0.05)
        return clock.seconds()

    def log_lines(self, word: str, most: int = 5) -> list[str]:
        """The last lines of its log that hold ``word``."""
        try:
            lines = self.log.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []
        return [line for line in lines if word in line][-most:]
