"""Minutes on the page, told in seconds: what it holds does not grow."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio
from playwright.async_api import Browser, CDPSession

from connectors.api.app import Options, create_app
from connectors.api.server import listening, serving
from connectors.api.services import Services
from streams.ports.page import PagePorts
from tests.browser.desk import SECONDS, chromium, mistakes, watched
from tests.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

# One picture stands for a second: so many before the first look at the memory, and so many after it.
BEFORE, AFTER = 40, 100
ROWS = 20  # of each picture, as many as 100 rows a second leave
NAMES = ("rows", "labeled", "augmented", "stored", "label_lag", "augment_lag", "store_lag")
NUMBERS = (
    "limit", "in_flight", "queue", "queue_replay", "endpoint_queue", "calls", "calls_rate", "failures",
    "failures_rate", "input_rate", "output_rate", "saved",
)  # fmt: skip
TOPICS = ("rows", "replay", "labeled", "shadow", "augmented", "dead_letter")
STAGES = ("label", "replay", "augment", "store")
LABELS = [f"label_{number}" for number in range(14)]


class Fast:
    """Implements the overview's port: pictures as fast as the page takes them, and counts them."""

    def __init__(self) -> None:
        self.told = 0
        self.most = BEFORE
        self.waits_for: list[dict[str, str]] = []
        self.lost: list[dict[str, Any]] = []

    def picture(self, number: int) -> dict[str, Any]:
        rate = 100 + 20 * math.sin(number / 30)
        stage = {"rate": rate, "done": number * 100, "lag": number % 50, "oldest": number % 7}
        endpoint = dict.fromkeys(NUMBERS, float(number % 64))
        feed = [
            {
                "row_id": f"{number}-{at}",
                "text": f"вопрос {number} {at} " * 20,
                "label": LABELS[at % 14],
                "confidence": 0.5,
                "model": "m",
                "labeled_at": "2026-01-31T09:30:00Z",
                "created_at": "2026-01-31T09:30:00Z",
                "label_version": "v1",
                "cached": False,
                "characters": 400,
            }
            for at in range(ROWS)
        ]
        return {
            "at": 1_800_000_000 + number,
            "problems": {},
            "tables": {"logs_labeled": number * 100, "logs_augmented": number * 99, "dead_letters": number},
            "topics": {name: {"messages": number * 100, "rate": rate} for name in TOPICS},
            "stages": {name: stage for name in STAGES},  # noqa: C420
            "endpoints": [
                {"name": "labeler", "available": True, "reason": "room", "saved_share": 0.4} | endpoint
            ],
            "roles": [{"role": role, "processes": 1, "ready": 1} for role in ("agents", "poller", "sink")],
            "source": {"polled": 1_800_000_000 + number, "watermark": 1_800_000_000 + number, "active": 1},
            "labels": {
                "until": 1_800_000_000 + number // 15,
                "labels": [[name, number + at, 100] for at, name in enumerate(LABELS)],
                "confidence": [number % 20] * 20,
            },
            "versions": [],
            "jobs": [],
            "waits_for": self.waits_for,
            "lost": self.lost,
            "point": [1_800_000_000 + number, *([rate] * len(NAMES))],
            "feed": feed,
        }

    async def watch(self) -> AsyncGenerator[dict[str, Any]]:
        yield self.picture(0) | {"history": {"names": NAMES, "columns": [[] for _ in range(8)]}, "feed": []}
        while True:
            if self.told < self.most:
                self.told += 1
                yield self.picture(self.told)
            await asyncio.sleep(0.005)


@pytest_asyncio.fixture(loop_scope="session")
async def served() -> AsyncIterator[tuple[Fast, str]]:
    if chromium() is None:
        pytest.skip("there is no Chromium on PATH; `make browser` installs it")
    fast = Fast()
    nothing = cast(Any, None)
    page = PagePorts(
        overview=cast(Any, fast), operations=nothing, review=nothing, audit=nothing, quality=nothing
    )
    services = Services(health=nothing, lookups=nothing, classifier=nothing, feed=nothing, page=page)
    with contextlib.closing(listening("127.0.0.1", 0)) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        async with serving(create_app(services, Options()), bound, lambda: None):
            yield fast, url


async def weight(session: CDPSession) -> tuple[float, int]:
    """Megabytes of the page's heap, and its nodes, after a collection."""
    for _ in range(2):
        await session.send("HeapProfiler.collectGarbage")
    found = {one["name"]: one["value"] for one in (await session.send("Performance.getMetrics"))["metrics"]}
    return found["JSHeapUsedSize"] / 1e6, int(found["Nodes"])


@pytest.mark.parametrize("view", ["flow", "feed"])
async def test_time_leaves_the_page_as_heavy_as_it_was(
    served: tuple[Fast, str], chrome: Browser, view: str
) -> None:
    fast, url = served
    at = await watched(await chrome.new_context(), url)
    await at.show(view)
    session = await at.page.context.new_cdp_session(at.page)
    await session.send("Performance.enable")

    async def shown(number: int) -> None:
        fast.most = number
        await eventually(lambda: fast.told >= number, measure=lambda: fast.told)
        # What is told is on its way to the page until its newest number is there.
        await at.page.wait_for_function(
            "want => document.querySelector('#count-letters').textContent.replace(/\\D/g, '') == want",
            arg=number,
            timeout=SECONDS,
        )

    await shown(BEFORE)
    before, nodes_before = await weight(session)
    await shown(BEFORE + AFTER)
    after, nodes_after = await weight(session)
    print(f"{view}: {before:.1f} -> {after:.1f} MB, {nodes_before} -> {nodes_after} nodes")
    assert after < before + 3
    assert nodes_after < nodes_before * 1.5 + 500
    assert mistakes(at) == []


@pytest.mark.parametrize("locale", ["ru-RU", "en-GB"])
async def test_it_says_who_waits_for_readers_and_what_retention_took(
    served: tuple[Fast, str], chrome: Browser, locale: str
) -> None:
    fast, url = served
    fast.most = 1
    at = await watched(await chrome.new_context(locale=locale), url)
    await at.show("flow")
    notices = at.page.locator("main p.notice")
    await at.page.wait_for_selector("#tile-labeled_rows", timeout=SECONDS)
    assert await notices.count() == 0
    fast.waits_for = [{"step": "poll", "topic": "esk.rows", "group": "esk-agents"}]
    fast.lost = [
        {"topic": "esk.rows", "group": "esk-agents", "messages": 812, "open": 34},
        {"topic": "esk.augmented", "group": "esk-sink", "messages": 5, "open": 0},
    ]
    fast.most += 1
    await at.page.wait_for_selector("main p.notice >> nth=1", timeout=SECONDS)
    waits, lost = await notices.all_inner_texts()
    for words in ("esk-agents", "esk.rows", "опрос" if locale == "ru-RU" else "poller"):
        assert words in waits
    for words in ("esk-agents", "esk.rows", "812", "34"):
        assert words in lost
    fast.waits_for, fast.lost = [], []
    fast.most += 1
    await at.page.wait_for_selector("main p.notice", state="detached", timeout=SECONDS)
    assert mistakes(at) == []
