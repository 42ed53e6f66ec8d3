"""One pipeline and one browser for each file of tests of the page; all run in one event loop.

They end with the file: left running to the end of a session, they would take a fifth of a core.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from connectors.local.stack import StackStatus
from tests.browser.desk import KEYS, Desk, browser, chromium
from tests.integration.pipeline import Pipeline
from tests.stack import SharedStack, fresh_name


@pytest.fixture(scope="session")
def stack(shared: SharedStack) -> StackStatus:
    if chromium() is None:
        pytest.skip("there is no Chromium on PATH; `make browser` installs it")
    return shared.all()


@pytest.fixture(scope="module")
def desk(stack: StackStatus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    flow = Pipeline(
        stack,
        fresh_name("desk"),
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


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def started_browser() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def chrome(started_browser: Browser) -> AsyncIterator[Browser]:
    """The browser of all tests, without anything that is open in it."""
    yield started_browser
    for context in started_browser.contexts:
        await context.close()
