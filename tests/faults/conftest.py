"""One stack for the tests of faults that follow each other; each has topics and a database of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.faults.actors import Actor
from tests.faults.world import World, world
from tests.fork_server import Forked

_numbers = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def forks() -> Iterator[None]:
    """Roles are forked from a process that has imported everything."""

    def launch(words: Sequence[str], environment: Mapping[str, str], folder: Path, log: int) -> Forked:
        return Forked(words, environment, folder, log, log)

    before, Actor.launch = Actor.launch, staticmethod(launch)
    yield
    Actor.launch = before


@pytest.fixture(scope="package")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.fixture(scope="session")
def new_name() -> Callable[[], str]:
    """A name for topics and database that nobody has had."""
    return lambda: f"faults{next(_numbers)}"
