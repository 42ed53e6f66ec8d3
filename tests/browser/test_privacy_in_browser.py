"""The page's card of personal data: how much was masked, by kind."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest
from playwright.async_api import Browser

from connectors.local.processes import free_port
from connectors.local.stack import StackStatus
from tests.browser.desk import KEYS, SECONDS, WRITE, answers, mistakes, watched
from tests.integration.pipeline import Pipeline
from tests.stack import fresh_name
from tests.waiting import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="session")

TEXTS = ["мой телефон +7 912 345-67-89", "8 (912) 345-67-80 или mail@example.com", "где мой заказ"]


async def test_the_card_counts_what_was_masked(stack: StackStatus, chrome: Browser, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flow = Pipeline(stack, fresh_name("masked"), tmp_path, API_KEYS=KEYS, API_PORT=str(port))
    try:
        flow.create()
        flow.start(
            "api",
            PRIVACY="mask",
            PRIVACY_ENTITIES="phone,email,card",
            PRIVACY_SECRET="the secret of the page",
        )
        flow.wait(lambda: answers(url), "the API")
        classify(url)
        at = await watched(await chrome.new_context(locale="ru-RU"), url)
        await at.sign_in(WRITE)
        await at.show("flow")
        card = at.page.locator("section.card", has=at.page.get_by_role("heading", name="Персональные данные"))
        # The roles are looked at every few seconds.
        await card.get_by_role("row", name="Телефоны 2", exact=True).wait_for(timeout=SECONDS)
        rows = [await row.inner_text() for row in await card.locator("tbody tr").all()]
        assert rows == ["Телефоны\t2", "Почта\t1", "Карты\t0"], flow.explain()
        assert mistakes(at) == []
    finally:
        flow.stop()


def classify(url: str) -> None:
    """Ask for the labels of `TEXTS`."""
    body = json.dumps({"texts": TEXTS}).encode()
    headers = {"X-API-Key": WRITE, "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{url}/classify", body, headers, method="POST")
    urllib.request.urlopen(asked, timeout=PATIENCE).close()
