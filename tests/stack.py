"""A running Kafka and ClickHouse (and LLM stand-in) for tests: free ports, a fresh data folder, shared jars.

In a ``conftest.py``::

    @pytest.fixture(scope="session")
    def stack(tmp_path_factory):
        with local_stack(tmp_path_factory) as running:
            yield running
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from connectors.local.stack import LocalStack, StackStatus

_REPOSITORY = Path(__file__).resolve().parents[1]


def shared_jars() -> Path:
    """Where all tests keep Kafka's jars, downloaded once: LABELSTREAM_JARS or the repository's."""
    return Path(os.environ.get("LABELSTREAM_JARS") or _REPOSITORY / ".labelstream" / "jars")


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
    """The parts wanted, their data in ``folder``, stopped again at the end whatever happens."""
    stack = LocalStack(folder, jars_dir=shared_jars())
    try:
        yield stack.up(kafka=kafka, clickhouse=clickhouse, llm=llm, llm_args=llm_args, taxonomy=taxonomy)
    finally:
        stack.down()


@contextlib.contextmanager
def local_stack(
    tmp_path_factory: pytest.TempPathFactory,
    *,
    kafka: bool = True,
    clickhouse: bool = True,
    llm: bool = False,
    llm_args: Sequence[str] = (),
    taxonomy: Path | None = None,
) -> Iterator[StackStatus]:
    """As `stack_in`, for a fixture."""
    with stack_in(
        tmp_path_factory.mktemp("stack"),
        kafka=kafka,
        clickhouse=clickhouse,
        llm=llm,
        llm_args=llm_args,
        taxonomy=taxonomy,
    ) as running:
        yield running
