"""What all tests share: one Kafka and ClickHouse, and the order in which several processes run the files.

There are more processes than cores, because tests wait. The longest files begin first, beside tests that only
compute, and at the end come short ones, so that all processes end together.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

from tests.stack import SharedStack

# A slow example says that the machine is busy, not that the code is wrong. Each run draws other examples;
# `make soak-examples` draws many.
hypothesis.settings.register_profile("labelstream", deadline=None, max_examples=20)
hypothesis.settings.register_profile("soak", deadline=None, max_examples=1_000)
hypothesis.settings.load_profile("labelstream")

# The processes of a run share compiled modules, in an environment that forbids to write them, too: without
# them each compiles what it imports, and each worker of the tests rewrites every assertion.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# What begins first, the longest first: a long file that begins late ends alone. Then come the other files in
# the order of their folders, and those that start no server.
_LONG = (
    "tests/faults/",
    "tests/faults/cluster/",
    "tests/browser/test_page_in_browser.py",
    "tests/integration/connectors/clickhouse/schema/test_migration.py",
    "tests/integration/privacy/",
    "tests/security/test_rights.py",
    "tests/integration/test_commands.py",
    "tests/integration/test_api_service.py",
    "tests/integration/test_topics_by_hand.py",
    "tests/integration/connectors/clickhouse/sink/test_inserter.py",
    "tests/browser/",
    "tests/integration/test_dead_letters.py",
    "tests/integration/streams/operations/",
    "tests/integration/tables/",
    "tests/integration/replays/",
    "tests/integration/repo/",
    "tests/faults/test_retention.py",
    "tests/integration/connectors/kafka/test_reader_positions.py",
    "tests/integration/test_",
)
# What runs in one process, so that it starts its brokers once: the tests of a folder, but for one's.
_TOGETHER = ("tests/faults/cluster/", "tests/faults/")
_APART = "tests/faults/test_retention.py"
# Tests that start no server compute, the others wait. Of so many processes one begins with the former.
_LIGHT, _PROCESSES_TO_ONE = "tests/unit/", 4
# A file system in memory, and the least room there, in bytes, for the data of a run's broker and engine.
_MEMORY, _ROOM = "/dev/shm", 6 << 30


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collecting makes objects that stay: to look for garbage among them takes a second of each process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, and last what starts no server."""

    def place(item: pytest.Item) -> int:
        found = [start for start in _LONG if item.nodeid.startswith(start)]
        return _LONG.index(max(found, key=len)) if found else len(_LONG) + item.nodeid.startswith(_LIGHT)

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``: a file in one process, and what shares brokers that are killed, too."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            scope: str = super()._split_scope(nodeid)
            if scope == _APART:
                return scope
            return next((folder for folder in _TOGETHER if scope.startswith(folder)), scope)

        def _assign_work_unit(self, node: Any) -> None:
            number = int(node.gateway.id.removeprefix("gw")) + 1
            light = number % _PROCESSES_TO_ONE == 0
            for scope in self.workqueue:
                if scope.startswith(_LIGHT) == light:
                    self.workqueue.move_to_end(scope, last=False)
                    break
            super()._assign_work_unit(node)

        def _reschedule(self, node: Any) -> None:
            """A process begins a test when it knows the next: no file waits behind more than that one."""
            if not node.shutting_down and self.workqueue and self._pending_of(self.assigned_work[node]) > 1:
                return
            super()._reschedule(node)

    return ByFile(config, log)


_SHARED = pytest.StashKey[SharedStack]()


def pytest_configure(config: pytest.Config) -> None:
    """Agree on where the shared parts of this run are, and who stops them."""
    given = getattr(config, "workerinput", None)
    if given is not None:  # one of several processes
        config.stash[_SHARED] = SharedStack(Path(given["shared_folder"]), given["shared_owner"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a further process of this run."""
    shared = _shared(node.config)
    node.workerinput.update(shared_folder=str(shared.folder), shared_owner=shared.owner)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    """Stop the parts, after the fixtures that use them."""
    try:
        return (yield)
    finally:
        if not hasattr(session.config, "workerinput") and _SHARED in session.config.stash:
            session.config.stash[_SHARED].remove()


def _shared(config: pytest.Config) -> SharedStack:
    if _SHARED not in config.stash:
        # Not below pytest's own folder: that may be removed while the parts still end.
        folder = Path(tempfile.mkdtemp(prefix="labelstream-tests-", dir=_in_memory()))
        config.stash[_SHARED] = SharedStack(folder, os.getpid())
    return config.stash[_SHARED]


def _in_memory() -> str | None:
    """A folder in memory, if there is room: an insert makes some 30 small files, and ext4 takes the longer to
    make one the more were deleted just before. None for the usual place.
    """
    with contextlib.suppress(OSError):
        room = min(shutil.disk_usage(_MEMORY).free, psutil.virtual_memory().available)
        return _MEMORY if room > _ROOM else None
    return None


@pytest.fixture(scope="session")
def shared(pytestconfig: pytest.Config) -> SharedStack:
    """The broker and the engine of all tests; each part starts when it is first asked for."""
    return _shared(pytestconfig)
