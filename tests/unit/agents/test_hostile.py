"""Hostile inputs through the real client: whatever a query holds, it stays the query."""

from __future__ import annotations

import asyncio
import csv
import json
from typing import Any

import pytest
from aiohttp import web

from agents.augment import Augmenter
from agents.label import make_labeler
from connectors.llm.client import ChatClient
from streams.core.environment import load
from streams.core.messages import Row
from streams.core.outcomes import Done
from streams.core.text import clean, why_skipped
from tests.unit.agents.fakes import NOW, REPOSITORY, NoMemory, labeled, taxonomy

with (REPOSITORY / "tests/data/hostile_queries.csv").open(encoding="utf-8", newline="") as lines:
    QUERIES = [(entry["kind"], entry["query_text"]) for entry in csv.DictReader(lines)]


class Capturing:
    """An endpoint that keeps each request's bytes and answers what is asked for."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"data": [{"id": "m"}]})
        body = await request.read()
        self.bodies.append(body)
        asked = json.loads(body)
        properties = (
            asked.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
        )
        content = json.dumps({"label": "other"} if "label" in properties else {"variants": ["а", "б", "в"]})
        if not properties:
            content = "A"
        return web.json_response({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]})


@pytest.mark.parametrize("mode", ["json", "choice"])
async def test_the_system_part_is_the_same_to_the_byte_and_the_query_inside_its_delimiters(mode: str) -> None:
    there = Capturing()
    runner = web.ServerRunner(web.Server(there.handle), shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}/v1".format(*runner.addresses[0][:2])
    settings = load(
        {"LLM_LABELER_API_BASE": url, "LLM_AUGMENTER_API_BASE": url, "LLM_LABELER_MODE": mode}, None
    )
    clients = [ChatClient.from_settings(settings, which) for which in ("labeler", "augmenter")]
    try:
        step, _ = await make_labeler(settings, clients[0], taxonomy(), NoMemory())
        augment = Augmenter(clients[1], 3, NoMemory()).augment
        there.bodies.clear()  # what was asked to find out what it takes
        texts = [(kind, raw, clean(raw)) for kind, raw in QUERIES]
        kept = [
            text for _, raw, text in texts if why_skipped(raw.encode("utf-8", "replace"), text, 3) is None
        ]
        assert len(QUERIES) == 60
        assert len(kept) >= 50
        rows = [Row(row_id=str(n), text=text, created_at=NOW, polled_at=NOW) for n, text in enumerate(kept)]
        outcomes = await asyncio.gather(*(step(row) for row in rows))
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        by_label, there.bodies = there.bodies, []
        varied = await asyncio.gather(*(augment(labeled(text)) for text in kept))
        assert all(isinstance(outcome, Done) for outcome in varied)
    finally:
        for client in clients:
            await client.close()
        await runner.cleanup()
    for bodies in (by_label, there.bodies):
        assert len(bodies) == len(kept)
        assert len({_before_the_query(body) for body in bodies}) == 1
        found = sorted(_query_in(json.loads(body)) for body in bodies)
        assert found == sorted(_shortened(text) for text in kept)


def _before_the_query(body: bytes) -> bytes:
    """The raw bytes up to the query's own: they are the same for all."""
    before, _, rest = body.partition(b"<query>\\n")
    assert rest.count(b"</query>") == 1
    assert body.count(b"<query>\\n") == 1
    return before


def _query_in(asked: dict[str, Any]) -> str:
    system, user = asked["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    opening, query, closing = user["content"].split("\n")
    assert (opening, closing) == ("<query>", "</query>")
    decoded = json.loads(query)
    assert isinstance(decoded, str)
    return decoded


def _shortened(text: str) -> str:
    if len(text) <= 4000:
        return text
    half = (4000 - len(" […] ")) // 2
    return text[:half] + " […] " + text[-half:]
