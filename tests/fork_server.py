"""labelstream's processes for tests, forked from one that has imported everything already.

A process of the product takes a second of CPU until it begins to work, nearly all of it for imports, and the
integration tests start hundreds. Here each is a fork of a server that has done that part: a process of its
own all the same, with its own id, memory, folder and environment, that can be killed and paused. What the
start itself does is for the tests that run ``python -m streams.cli``.

The server belongs to one test process and ends with it, and so does all that it has forked.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from tests.waiting import PATIENCE

_REPOSITORY = Path(__file__).resolve().parents[1]
_REQUEST = 1 << 20
# Libraries that would start threads when they are imported.
_THREADLESS = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}


class Forked:
    """A process of the product; has what tests use of `subprocess.Popen`."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], cwd: Path, out: int, err: int) -> None:
        self.args = ("labelstream", *words)
        request = json.dumps({"words": list(words), "env": dict(env), "cwd": str(cwd)}).encode()
        ours, theirs = os.pipe()
        try:
            socket.send_fds(_line(), [request], [out, err, theirs])
        finally:
            os.close(theirs)
        self._status = os.fdopen(ours, "rb", buffering=0)
        self.pid = int(self._read())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, as `Popen.poll` gives it; None while it runs."""
        if self.returncode is None and select.select([self._status], [], [], 0)[0]:
            self.returncode = int(self._read() or -signal.SIGKILL)  # the server itself was killed
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended. Raises :class:`subprocess.TimeoutExpired`."""
        if self.returncode is None and not select.select([self._status], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        code = self.poll()
        assert code is not None
        return code

    def send_signal(self, number: int) -> None:
        """Nothing, if it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self) -> bytes:
        line = b""
        while not line.endswith(b"\n") and (more := self._status.read(1)):
            line += more
        return line


def run(words: Sequence[str], env: Mapping[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command to its end, with what it wrote."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(words, env, cwd, out.fileno(), err.fileno())
        try:
            code = process.wait(PATIENCE)
        finally:
            process.kill()
        written = []
        for file in (out, err):
            file.seek(0)
            written.append(file.read().decode())
    return subprocess.CompletedProcess(process.args, code, *written)


_server: tuple[subprocess.Popen[bytes], socket.socket] | None = None
_starting = threading.Lock()


def _line() -> socket.socket:
    """The line to this process's server, which is started when it is first needed."""
    global _server
    with _starting:
        if _server is None or _server[0].poll() is not None:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _REQUEST)
            env = {**os.environ, "PYTHONPATH": str(_REPOSITORY), **_THREADLESS}
            command = [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())]
            process = subprocess.Popen(
                command, env=env, cwd=_REPOSITORY, pass_fds=[theirs.fileno()], start_new_session=True
            )
            theirs.close()
            _server = process, ours
            atexit.register(_end, process, ours)
    return _server[1]


def _end(process: subprocess.Popen[bytes], line: socket.socket) -> None:
    line.close()
    process.wait()


# --- the server ---


def _import_all() -> None:
    """All of the product but the local stack, whose engine is another process."""
    for name in ("streams", "agents", "connectors"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.startswith("connectors.local.") and not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _serve(line: socket.socket) -> Callable[[], None] | None:
    """Fork what is asked for until nobody can ask any more. Returns what to do, in a forked process."""
    woken, wakes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}  # process and where its end is told
    while True:
        readable, _, _ = select.select([line, woken], [], [])
        if woken in readable:
            os.read(woken, 1 << 16)
        _collect(running)
        if line not in readable:
            continue
        request, handed, _, _ = socket.recv_fds(line, _REQUEST, 3)
        if not request:
            for pid in running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return None
        out, err, status = handed
        pid = os.fork()
        if not pid:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for fd in (line.detach(), woken, wakes, status, *running.values()):
                os.close(fd)
            return _program(json.loads(request), out, err)
        os.close(out)
        os.close(err)
        os.write(status, b"%d\n" % pid)
        running[pid] = status


def _collect(running: dict[int, int]) -> None:
    """Tell of those that have ended."""
    for pid, status in list(running.items()):
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            with contextlib.suppress(BrokenPipeError):
                os.write(status, b"%d\n" % os.waitstatus_to_exitcode(code))
            os.close(status)
            del running[pid]


def _program(request: dict[str, object], out: int, err: int) -> Callable[[], None]:
    """`labelstream` with the words, folder and environment of a request."""
    words, env, cwd = request["words"], request["env"], request["cwd"]
    assert isinstance(words, list)
    assert isinstance(env, dict)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(out)
    os.close(err)
    os.chdir(str(cwd))
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    sys.argv = ["labelstream", *words]

    from streams.cli.main import main

    return main


def _run(program: Callable[[], None]) -> NoReturn:
    """Run it to its end as the interpreter would, but keep what was imported: to free that costs CPU.

    Freeing writes to every object, so the kernel would copy the server's memory page by page.
    """
    code: object = 0
    try:
        program()
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _main() -> None:
    line = socket.socket(fileno=int(sys.argv[1]))
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    _import_all()
    gc.collect()
    gc.freeze()
    tasks = Path("/proc/self/task")
    assert not tasks.exists() or len(list(tasks.iterdir())) == 1, "a fork would lose a thread"
    program = _serve(line)
    if program is not None:
        _run(program)


if __name__ == "__main__":
    _main()
