"""A running pipeline with two processes of the API, and a browser on its page."""

from __future__ import annotations

import csv
import json
import shutil
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from connectors.local.processes import free_port
from tests.integration.pipeline import ROOT, Pipeline
from tests.waiting import PATIENCE

VENDOR = Path(__file__).with_name("vendor")
WRITE, OTHER, READ = "the-key-of-anna", "the-key-of-boris", "the-key-of-a-viewer"
KEYS = f"anna:write:{WRITE},boris:write:{OTHER},viewer:read:{READ}"
VIEWS = ("flow", "labels", "feed", "letters", "replays", "files", "review", "quality", "audit")
# Debian's Chromium, alone: nothing of its own goes to the network.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # The moving lines of the flow are painted without a GPU here, which takes most of a core.
    "--force-prefers-reduced-motion",
)
SECONDS = 1000 * PATIENCE  # of a wait in the browser, in its milliseconds


def chromium() -> str | None:
    """Where a browser is."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((found for name in names if (found := shutil.which(name))), None)


class Desk:
    """The pipeline ``flow``, whose API runs twice, at ``urls``."""

    def __init__(self, flow: Pipeline) -> None:
        self.flow = flow
        ports = [free_port(), free_port()]
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        self._ports = ports
        self._next = 1

    def begin(self) -> None:
        """Make the tables, start every role, wait until the API answers."""
        flow = self.flow
        client = flow.clickhouse()
        client.command(f"CREATE DATABASE {flow.database}")
        client.command(
            f"CREATE TABLE {flow.database}.logs "
            "(id UInt64, query_text String, created_at DateTime64(6, 'UTC')) ENGINE = MergeTree ORDER BY id"
        )
        client.close()
        made = flow.command("init")
        assert made.returncode == 0, made.stderr
        self.workers = flow.start("poller", "agents", "sink")
        for port in self._ports:
            flow.start("api", API_PORT=str(port))
        for url in self.urls:
            flow.wait(lambda url=url: answers(url), f"the API at {url}")  # type: ignore[misc]

    def insert(self, texts: list[str], *, hours: float = 0.0) -> None:
        """Source rows, spread over the last ``hours``."""
        now, count = datetime.now(UTC), max(1, len(texts))
        rows = [
            [self._next + at, text, now - timedelta(hours=hours * (count - 1 - at) / count)]
            for at, text in enumerate(texts)
        ]
        self._next += len(texts)
        client = self.flow.clickhouse()
        client.insert(
            "logs",
            rows,
            column_names=["id", "query_text", "created_at"],
            database=self.flow.database,
        )
        client.close()

    def upload(self, content: bytes, name: str) -> None:
        """A file of rows."""
        url = f"{self.urls[0]}/upload?name={name}"
        asked = urllib.request.Request(url, content, {"X-API-Key": WRITE}, method="POST")
        urllib.request.urlopen(asked, timeout=PATIENCE).close()

    async def poison(self, value: bytes) -> None:
        """A message that no step can read."""
        producer = AIOKafkaProducer(bootstrap_servers=self.flow.kafka)
        await producer.start()
        await producer.send_and_wait(f"{self.flow.prefix}.rows", value, partition=1)
        await producer.stop()

    def faults(self, *given: dict[str, Any]) -> None:
        """Which faults the stand-in model has."""
        url = self.flow.llm.removesuffix("/v1") + "/faults"
        body = json.dumps(list(given)).encode()
        urllib.request.urlopen(urllib.request.Request(url, body, method="POST"), timeout=PATIENCE).close()

    def told(self, *words: str) -> dict[str, Any]:
        """The JSON of a command that succeeds."""
        done = self.flow.command(*words, "--json")
        assert done.returncode == 0, f"{done.stderr}\n{self.flow.explain()}"
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        return found


def answers(url: str) -> bool:
    """Whether it is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=PATIENCE) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def shipped(count: int) -> list[str]:
    """Queries as they come."""
    with (ROOT / "connectors/local/data/queries.csv").open(encoding="utf-8") as file:
        known = [row[1] for row in csv.reader(file)][1:]
    return [known[at % len(known)] + (f" ({at})" if at >= len(known) else "") for at in range(count)]


def hostile() -> list[str]:
    """Scripts, markup, right-to-left, 20,000 characters."""
    with (ROOT / "tests/data/hostile_queries.csv").open(encoding="utf-8", newline="") as file:
        return [row["query_text"] for row in csv.DictReader(file)]


@dataclass
class Watched:
    """A page, and what went wrong on it: console messages, errors, requests that failed or left."""

    page: Page
    url: str
    wrong: list[str] = field(default_factory=list)

    async def show(self, view: str) -> None:
        """Open a section of the page."""
        await self.page.goto(f"{self.url}/#/{view}")
        await self.page.wait_for_selector(f"nav a[href='#/{view}'][aria-current=page]", timeout=SECONDS)

    async def sign_in(self, key: str) -> None:
        """As a person does."""
        await self.page.goto(self.url)
        await self.page.fill("input[name=key]", key)
        await self.page.keyboard.press("Enter")
        await self.page.wait_for_selector("nav a", timeout=SECONDS)


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A headless one."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(
            executable_path=chromium(), args=list(ARGUMENTS), timeout=SECONDS
        )
        try:
            yield started
        finally:
            await started.close()


async def watched(context: BrowserContext, url: str) -> Watched:
    """A new page. Requests to anything but the service are refused, and noted."""
    context.set_default_timeout(SECONDS)
    page = await context.new_page()
    found = Watched(page, url)

    async def route(route: Any) -> None:
        if route.request.url.startswith(url + "/"):
            await route.continue_()
        else:
            found.wrong.append(f"left for {route.request.url}")
            await route.abort()

    await page.route("**/*", route)
    page.on("console", lambda message: found.wrong.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: found.wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: found.wrong.append(f"dialog: {dialog.message}"))
    page.on("requestfailed", lambda request: found.wrong.append(_failed(request)))
    return found


def _failed(request: Any) -> str:
    # A stream ends when its page is left: that is no failure.
    left = "/stream/" in request.url and "ERR_ABORTED" in str(request.failure)
    return "" if left else f"failed: {request.url} {request.failure}"


async def called(page: Page, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the service answers to the page itself: its ``status`` and its ``told`` JSON."""
    found: dict[str, Any] = await page.evaluate(_CALL, [method, path, body])
    return found


_CALL = """async ([method, path, body]) => {
  const who = await (await fetch("/session")).json();
  const desk = sessionStorage.getItem("labelstream.desk") ?? "none";
  const headers = { "content-type": "application/json", "x-csrf-token": who.csrf, "x-desk": desk };
  const answer = await fetch(path, { method, headers, body: body ? JSON.stringify(body) : undefined });
  return { status: answer.status, told: await answer.json() };
}"""


def mistakes(found: Watched) -> list[str]:
    """What went wrong."""
    return [one for one in found.wrong if one]
