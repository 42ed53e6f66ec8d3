"""The whole pipeline on the shared stack; each test has topics and a database of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.local.stack import StackStatus
from tests.integration.file_service import service
from tests.integration.pipeline import Pipeline
from tests.stack import SharedStack, fresh_name

__all__ = ["service"]  # a fixture for the tests of files and fetches


@pytest.fixture(scope="session")
def stack(shared: SharedStack) -> StackStatus:
    return shared.all()


@pytest.fixture
def make(stack: StackStatus, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def new(**settings: str) -> Pipeline:
        pipeline = Pipeline(stack, fresh_name("flow"), tmp_path, **settings)
        made.append(pipeline)
        return pipeline

    yield new
    for pipeline in made:
        pipeline.stop()
