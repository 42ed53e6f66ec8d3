"""Child processes: recognised again, stopped, and never mistaken for a stranger."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from connectors.local import processes
from connectors.local.processes import Child
from tests.waiting import until

Run = Callable[[str], Child]

_STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""
_WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("child", child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "child.log"


@pytest.fixture
def run(log: Path) -> Iterator[Run]:
    """Runs a Python program as a child; whatever is left at the end is killed."""
    children: list[Child] = []

    def start(program: str) -> Child:
        child = processes.start([sys.executable, "-c", program], log)
        children.append(child)
        return child

    yield start
    for child in children:
        child.signal(signal.SIGKILL)
    until(lambda: not any(child.alive for child in children))


def test_a_child_runs_in_a_session_of_its_own_and_logs_to_its_file(run: Run, log: Path) -> None:
    child = run(
        "import os, sys; print(os.getsid(0) == os.getpid()); "
        "print('problem', file=sys.stderr); sys.stdin.read()"
    )
    until(lambda: not child.alive)  # its standard input is empty
    assert log.read_text() == "True\nproblem\n"


def test_output_is_appended_and_a_large_log_is_set_aside(run: Run, log: Path) -> None:
    for word in ("one", "two"):
        child = run(f"print('{word}')")
        until(lambda one=child: not one.alive)  # type: ignore[misc]
    assert log.read_text() == "one\ntwo\n"
    with log.open("r+b") as file:
        file.truncate(10_000_001)
    child = run("print('three')")
    until(lambda: not child.alive)
    assert log.read_text() == "three\n"
    assert log.with_suffix(".1.log").stat().st_size == 10_000_001


def test_the_environment_finds_this_project(run: Run, log: Path) -> None:
    child = run("import os; os.chdir('/'); import connectors.local.processes as p; print(p.__file__)")
    until(lambda: not child.alive)
    assert Path(log.read_text().strip()) == Path(processes.__file__)


def test_a_child_is_alive_until_it_ends(run: Run) -> None:
    child = run("import time; time.sleep(600)")
    assert child.alive
    os.kill(child.pid, signal.SIGKILL)
    until(lambda: not child.alive)


def test_an_id_that_another_process_has_now_is_not_the_child() -> None:
    me = Child.of(os.getpid())
    assert me.alive
    stranger = Child(me.pid, me.started - 100)
    assert not stranger.alive
    stranger.signal(signal.SIGKILL)  # or this test would not go on
    processes.stop([stranger])


@pytest.mark.parametrize("seconds", [-3600, -1, 1, 67])
def test_a_child_is_recognised_after_the_clock_was_set(
    seconds: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    child, boot = run("import time; time.sleep(600)"), psutil.boot_time()
    # What the system says of its own start is the clock's time less the time that it has run.
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: boot + seconds)
    assert child.alive
    processes.stop([child])
    assert not child.alive


def test_a_clock_that_is_set_in_the_middle_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    boot = psutil.boot_time()
    times = iter([boot, boot + 67, boot + 67])
    me = Child.of(os.getpid())
    monkeypatch.setattr("psutil._psplatform.boot_time", lambda: next(times, boot + 67))
    assert me.alive


def test_a_process_that_nobody_has_is_not_alive(run: Run) -> None:
    child = run("pass")
    until(lambda: not psutil.pid_exists(child.pid) or not child.alive)
    assert not child.alive
    child.signal(signal.SIGTERM)


def test_stop_ends_a_child_and_what_it_started(run: Run, log: Path) -> None:
    child = run(_WITH_CHILD)
    until(lambda: log.exists() and "child" in log.read_text())
    grandchild = int(log.read_text().split()[1])
    processes.stop([child])
    assert not child.alive
    until(
        lambda: (
            not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == psutil.STATUS_ZOMBIE
        )
    )


def test_stop_kills_what_does_not_listen(run: Run, log: Path) -> None:
    child = run(_STUBBORN)
    until(lambda: log.exists() and "ready" in log.read_text())
    processes.stop([child], grace=0.3)
    assert not child.alive


class Stubborn:
    """A child that only a kill ends; writes down who was told what."""

    def __init__(self, name: int, told: list[tuple[int, signal.Signals]]) -> None:
        self.name, self.told, self.alive = name, told, True

    def signal(self, number: signal.Signals) -> None:
        self.told.append((self.name, number))
        self.alive = number != signal.SIGKILL


def test_stop_asks_all_at_once() -> None:
    told: list[tuple[int, signal.Signals]] = []
    processes.stop([Stubborn(name, told) for name in range(3)], grace=0.1)  # type: ignore[misc]
    asked, killed = ([(name, number) for name in range(3)] for number in (signal.SIGTERM, signal.SIGKILL))
    assert told == [*asked, *killed]


def test_free_ports_are_free_and_not_those_to_avoid() -> None:
    port = processes.free_port()
    assert processes.port_is_free(port)
    assert processes.free_port(avoid=[port]) != port
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not processes.port_is_free(server.getsockname()[1])


def test_the_end_of_a_log_is_read_whatever_is_in_it(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert processes.last_lines(log) == ""
    log.write_bytes(b"\xff\n" + b"".join(b"line %d\n" % number for number in range(20)))
    assert processes.last_lines(log, 2) == "line 18\nline 19"
