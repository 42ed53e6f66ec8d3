"""Child processes that outlive the command that started them: start, find again, stop.

A process is identified by its id and its start time: ids are reused, and the stack must never stop a foreign
process that got the id of a dead child. The start time is counted from the start of the machine: by the clock
it would be another one as soon as the clock is set, and a child that runs would be taken for dead.
"""

import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_LARGE_LOG = 10_000_000
_LOWEST_PORT = 10_000
_SYSTEM_RANDOM = random.SystemRandom()  # equal in no two processes, whatever seeds the usual one


@dataclass(frozen=True, slots=True)
class Child:
    """A started process: its id, and when it started (seconds after the machine did)."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "Child":
        """The process that has this id now. Raises :class:`psutil.NoSuchProcess`."""
        return cls(pid, _started(pid))

    @property
    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        with contextlib.suppress(OSError):
            os.waitpid(self.pid, os.WNOHANG)  # reaps it, if it was a child of this process
        try:
            if abs(_started(self.pid) - self.started) >= 0.05:
                return False
            process = psutil.Process(self.pid)
            # A killed process with threads left still holds its port and its files.
            return bool(process.status() != psutil.STATUS_ZOMBIE or process.num_threads() > 1)
        except psutil.Error:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Signal the process and its children; does nothing if it is gone."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def start(command: Sequence[str], log: Path) -> Child:
    """Start ``command`` in a session of its own, so that Ctrl-C in a terminal does not reach it.

    Its output is appended to ``log``; a log of more than 10 MB is renamed first.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > _LARGE_LOG:
        os.replace(log, log.with_suffix(".1.log"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(output)
    try:
        return Child.of(pid)
    except psutil.Error:
        return Child(pid, 0.0)


def stop(children: Sequence[Child], grace: float = 8.0) -> None:
    """Ask all to end at the same time; after ``grace`` seconds kill those that have not."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 5.0)):
        for child in children:
            child.signal(number)
        deadline = time.monotonic() + patience
        while any(child.alive for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)


def python_module(module: str, *arguments: str) -> list[str]:
    """The command that runs one of this project's modules with this Python."""
    return [sys.executable, "-m", module, *arguments]


def free_port(avoid: Sequence[int] = ()) -> int:
    """A port of 127.0.0.1 that nobody listens on now.

    It is below those that the kernel gives to connections, and to servers that ask for any port: one of these
    could take it before the server that it is meant for.
    """
    while True:
        port = _SYSTEM_RANDOM.randrange(_LOWEST_PORT, max(_lowest_given(), _LOWEST_PORT + 1000))
        if port not in avoid and port_is_free(port):
            return port


def _lowest_given() -> int:
    """The lowest port that the kernel gives by itself."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return 49152  # of the range that IANA recommends


def port_is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of 127.0.0.1."""
    with socket.socket() as probe:
        # As servers do: a port may be used again while its last connections are still in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log file, for an error message."""
    try:
        lines = log.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-count:])


def _started(pid: int) -> float:
    """Seconds between the machine's start and that of a process. Raises :class:`psutil.NoSuchProcess`."""
    while True:
        boot = psutil.boot_time()
        started = psutil.Process(pid).create_time()
        # Both move when the clock is set. Their difference does not, unless that happened between the two.
        if psutil.boot_time() == boot:
            return started - boot


def _environment() -> dict[str, str]:
    # The child must find this project from any working folder, also when it is not installed.
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
    }
