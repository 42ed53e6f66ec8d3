"""A running Kafka, ClickHouse and LLM stand-in for tests: free ports, fresh data, jars that all runs share.

All tests of a run share one broker and one engine, in whatever process they run: fixture `shared`. Whoever
needs a part first starts it; the process that runs the session stops all of it at the end, and should that be
killed, a guard process does. A test has names of its own there (`fresh_name`) and leaves the parts as they
are. One that kills, pauses or sets up a part starts its own with `stack_in`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from connectors.local import processes
from connectors.local.class_cache import make_class_cache
from connectors.local.jars import ensure_jars
from connectors.local.processes import Child
from connectors.local.stack import LocalStack, PartStatus, StackStatus
from streams.core.errors import LabelstreamError

_REPOSITORY = Path(__file__).resolve().parents[1]
TAXONOMY = _REPOSITORY / "taxonomy.yaml"
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "main")
_numbers = itertools.count()


def shared_jars() -> Path:
    """Where all tests keep Kafka's jars, downloaded once: LABELSTREAM_JARS or the repository's."""
    return Path(os.environ.get("LABELSTREAM_JARS") or _REPOSITORY / ".labelstream" / "jars")


def fresh_name(kind: str) -> str:
    """A name for a database, a table or a topic prefix that no other test of the run has."""
    return f"{kind}_{_WORKER}_{next(_numbers)}"


@contextlib.contextmanager
def stack_in(
    folder: Path,
    *,
    kafka: bool = True,
    clickhouse: bool = True,
    llm: bool = True,
    llm_args: Sequence[str] = (),
    taxonomy: Path | None = None,
) -> Iterator[StackStatus]:
    """The parts wanted, for the caller alone, data in ``folder``; stopped at the end whatever happens."""
    stack = LocalStack(folder, jars_dir=shared_jars())
    try:
        yield stack.up(kafka=kafka, clickhouse=clickhouse, llm=llm, llm_args=llm_args, taxonomy=taxonomy)
    finally:
        stack.down()


@contextlib.contextmanager
def local_stack(
    tmp_path_factory: pytest.TempPathFactory, *, kafka: bool = True, clickhouse: bool = True
) -> Iterator[StackStatus]:
    """As `stack_in`, for the fixture of a module that cannot share."""
    with stack_in(tmp_path_factory.mktemp("stack"), kafka=kafka, clickhouse=clickhouse, llm=False) as running:
        yield running


@dataclass(frozen=True)
class SharedStack:
    """What the tests of a run share, below ``folder``. ``owner`` is the id of the process that stops it."""

    folder: Path
    owner: int

    def kafka(self) -> PartStatus:
        """The broker of all tests."""
        return self._up("shared", kafka=True).kafka

    def clickhouse(self) -> PartStatus:
        """The engine of all tests."""
        return self._up("shared", clickhouse=True).clickhouse

    def standin(self) -> PartStatus:
        """A stand-in for this process alone: its counts and its faults are those of all callers."""
        return self._up(_WORKER, llm=True).llm

    def all(self) -> StackStatus:
        """The three together."""
        return StackStatus(
            data=self.folder, kafka=self.kafka(), clickhouse=self.clickhouse(), llm=self.standin()
        )

    def stop(self) -> None:
        """Stop everything that was started here."""
        for state in self.folder.glob("*/stack.json"):
            LocalStack(state.parent).down()

    def remove(self) -> None:
        """Stop everything, and leave no data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _up(self, name: str, kafka: bool = False, clickhouse: bool = False, llm: bool = False) -> StackStatus:
        self.folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(self.folder / "guarded", os.O_CREAT | os.O_EXCL))
            command = processes.python_module("tests.stack", str(self.folder), str(self.owner))
            processes.start(command, self.folder / "guard.log")
        stack = LocalStack(self.folder / name, jars_dir=shared_jars())
        return stack.up(kafka=kafka, clickhouse=clickhouse, llm=llm, taxonomy=TAXONOMY)


def guard(folder: Path, owner: int) -> None:
    """Wait until the process ``owner`` is gone, then stop what it has left running.

    Before, and beside the first tests: what halves the cost of starting a broker, once for all runs.
    """
    try:
        make_class_cache(ensure_jars(shared_jars()))
    except (LabelstreamError, OSError, subprocess.SubprocessError):
        traceback.print_exc()  # brokers start without it, and what runs has to be stopped all the same
    with contextlib.suppress(psutil.NoSuchProcess):
        child = Child.of(owner)
        while child.alive:
            time.sleep(1)
    shared = SharedStack(folder, owner)
    while folder.exists():
        shared.stop()
        time.sleep(5)  # a worker that outlives its owner for a moment may be starting a part
        shared.remove()


if __name__ == "__main__":
    guard(Path(sys.argv[1]), int(sys.argv[2]))
