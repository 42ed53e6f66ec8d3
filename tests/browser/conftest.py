"""One pipeline for all tests of the page, and a browser for each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from connectors.local.stack import StackStatus
from tests.browser.desk import KEYS, Desk, browser, chromium
from tests.integration.pipeline import Pipeline
from tests.stack import local_stack

TAXONOMY = Path(__file__).resolve().parents[2] / "taxonomy.yaml"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackStatus]:
    if chromium() is None:
        pytest.skip("there is no Chromium on PATH; `make browser` installs it")
    with local_stack(tmp_path_factory, llm=True, taxonomy=TAXONOMY) as running:
        yield running


@pytest.fixture(scope="session")
def desk(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    flow = Pipeline(
        stack,
        "desk",
        tmp_path_factory.mktemp("desk"),
        API_KEYS=KEYS,
        API_SESSION_SECRET="of both processes",
        LABEL_VERSION="v1",
        API_REQUESTS_PER_SECOND="0",
    )
    running = Desk(flow)
    try:
        running.begin()
        yield running
    finally:
        running.faults()
        flow.stop()


@pytest.fixture
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started
