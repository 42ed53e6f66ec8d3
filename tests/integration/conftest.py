"""One stack for all tests of the whole pipeline; each test has topics and a database of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from connectors.local.stack import StackStatus
from tests.integration.file_service import service
from tests.integration.pipeline import Pipeline
from tests.stack import local_stack

__all__ = ["service"]  # a fixture for the tests of files and fetches

_numbers = itertools.count()
TAXONOMY = Path(__file__).resolve().parents[2] / "taxonomy.yaml"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackStatus]:
    with local_stack(tmp_path_factory, llm=True, taxonomy=TAXONOMY) as running:
        yield running


@pytest.fixture
def make(stack: StackStatus, tmp_path: Path) -> Iterator[Callable[..., Pipeline]]:
    made: list[Pipeline] = []

    def new(**settings: str) -> Pipeline:
        pipeline = Pipeline(stack, f"flow{next(_numbers)}", tmp_path, **settings)
        made.append(pipeline)
        return pipeline

    yield new
    for pipeline in made:
        pipeline.stop()
