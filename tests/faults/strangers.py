"""Rounds against a stranger's model server, with the failures of gateways and models: make soak-strangers.

The client, the label step and the delivery are the real ones, and the server is real, on a socket; only Kafka
is a fake. Prints for each round what was lost, how long each forbidden text was tried, and the rate beside
it, as a share of what the answers that succeed allow. Exit code 1 if a promise broke.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from agents.label import Labeler
from agents.prompting import prompt_text
from agents.taxonomy import Taxonomy, load_taxonomy
from connectors.llm.cache import Shared
from connectors.llm.client import ChatClient
from streams.core.codec import encode
from streams.core.messages import Row
from streams.core.records import Commit, Partition, Record
from streams.delivery.routes import Limits
from tests.unit.streams.delivery.fakes import NOW, Broker, make, take_over
from tests.waiting import Watch

TAXONOMY = Path(__file__).resolve().parents[2] / "taxonomy.yaml"
SLOTS = 64
PARTITIONS = 3
FORBIDDEN = 10
GIVEN_UP_SECONDS, BACK_SECONDS, RATE = 60.0, 10.0, 0.9
# Each of the forbidden texts is refused in another way.
WAYS = ("400", "403", "404", "413", "422", "429", "302", "error", "filter", "page", "cut", "empty", "stream")
_REFUSALS = 5
ROUNDS = ("forbidden", "refused", "aborted", "errors", "capitals")


@dataclass
class Stranger:
    """The server. ``manner``: one of `ROUNDS`, or `healthy`."""

    labels: tuple[str, ...]
    manner: str = "healthy"
    ways: dict[str, str] = field(default_factory=dict)  # of the forbidden texts
    seconds: float = 0.4
    away_seconds: float = 20.0
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    url: str = ""
    began: float = 0.0
    back_at: float = 0.0
    first_at: dict[str, float] = field(default_factory=dict)  # when each forbidden text was first refused
    tries: dict[str, int] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)  # of all texts, by why

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.endswith("/chat/completions"):
            return web.Response(status=404)
        body = json.loads(await request.read())
        content = body["messages"][-1]["content"]
        for text, way in self.ways.items():
            if text in content:
                self.first_at.setdefault(text, time.monotonic())
                self.tries[text] = self.tries.get(text, 0) + 1
                return await self._refuse(way, request)
        if self.manner == "refused":
            if not self.began:
                self.began = time.monotonic()
            since = time.monotonic() - self.began
            # However slow the machine: each way is met a few times.
            if since < self.away_seconds or self.refused["budget"] < _REFUSALS:
                self.refused["budget"] += 1
                return web.json_response({"error": {"message": "Budget has been exceeded"}}, status=400)
            if since < 1.5 * self.away_seconds or self.refused["key"] < _REFUSALS:
                self.refused["key"] += 1
                return web.json_response({"error": {"message": "Invalid API key"}}, status=401)
            self.back_at = self.back_at or time.monotonic()
        await asyncio.sleep(self.seconds)
        if self.manner in ("aborted", "errors") and self.chance.random() < 0.3:
            if self.manner == "aborted":
                return web.json_response(self._completion("", finish="abort"))
            return web.json_response({"error": {"message": "out of memory", "type": "server_error"}})
        label = self.labels[len(content) % len(self.labels)]
        label = label.upper() if self.manner == "capitals" else label
        return web.json_response(self._completion(json.dumps({"label": label})))

    async def _refuse(self, way: str, request: web.BaseRequest) -> web.StreamResponse:
        if way.isdecimal():
            headers = {"location": "http://127.0.0.1:9/blocked"} if way == "302" else {}
            return web.Response(status=int(way), text=f"blocked by policy {way}", headers=headers)
        if way == "error":
            return web.json_response({"error": {"message": "blocked by policy error", "code": 403}})
        if way == "filter":
            return web.json_response(self._completion("", finish="content_filter"))
        if way == "page":
            return web.Response(text="<html><h1>blocked by policy page</h1></html>", content_type="text/html")
        if way == "empty":
            return web.json_response(self._completion(""))
        if way == "stream":
            return web.Response(text='data: {"choices": []}\n\n', content_type="text/event-stream")
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def _completion(self, content: str, finish: str = "stop") -> dict[str, Any]:
        message = {"role": "assistant", "content": content}
        return {
            "id": "1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 8, "total_tokens": 108},
        }


@contextlib.asynccontextmanager
async def serving(stranger: Stranger) -> AsyncIterator[None]:
    """The server on a free port of 127.0.0.1."""
    server = web.Server(stranger.handle, handler_cancellation=True, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    stranger.url = f"http://{host}:{port}/v1"
    try:
        yield
    finally:
        await runner.cleanup()


@dataclass
class Outcome:
    """What became of the rows of one round."""

    manner: str
    rows: int
    labeled: int
    innocent_letters: list[str]
    letters: dict[str, dict[str, str]]  # of the forbidden texts: the headers
    given_up_after: dict[str, float]
    most_seconds: float  # until nine rows of ten were labelled
    back_after: float
    calls: int
    logs: list[dict[str, Any]]

    @property
    def faults(self) -> list[str]:
        """The broken promises that are no matter of seconds."""
        found = []
        if self.innocent_letters:
            found.append(f"{len(self.innocent_letters)} innocent dead letters: {self.innocent_letters[:3]}")
        if self.labeled + len(self.letters) + len(self.innocent_letters) != self.rows:
            found.append("rows are missing")
        return found


async def play(
    manner: str, *, rows: int = 1500, seconds: float = 0.4, away_seconds: float = 20.0, seed: int = 0
) -> Outcome:
    """One round: so many rows, of which ten are forbidden (none if ``manner`` is `healthy`)."""
    chance = random.Random(seed)
    taxonomy = load_taxonomy(TAXONOMY)
    texts = [f"вопрос номер {seed} {number:05d}" for number in range(rows)]
    stranger = Stranger(taxonomy.names, manner, seconds=seconds, away_seconds=away_seconds, chance=chance)
    if manner != "healthy":
        for text, way in zip(chance.sample(texts, FORBIDDEN), chance.sample(WAYS, FORBIDDEN), strict=True):
            stranger.ways[text] = way
    with structlog.testing.capture_logs() as logs:
        async with serving(stranger):
            client = ChatClient(
                base_urls=[stranger.url], model="m", setting="LLM_LABELER_API_BASE", concurrency=SLOTS
            )
            try:
                return await _deliver(stranger, client, taxonomy, texts, logs)
            finally:
                await client.close()


async def _deliver(
    stranger: Stranger, client: ChatClient, taxonomy: Taxonomy, texts: list[str], logs: list[Any]
) -> Outcome:
    labeler = Labeler(client, "m", prompt_text("label"), taxonomy, "v1", Shared())
    broker = Broker()
    delivery = make(broker, labeler.label, Limits({"label": SLOTS}))
    partitions = [Partition("rows", number) for number in range(PARTITIONS)]
    await take_over(delivery, dict.fromkeys(partitions, Commit(-1)), 1)
    began = time.monotonic()
    for number, text in enumerate(texts):
        offset, where = divmod(number, PARTITIONS)
        value = encode(Row(row_id=str(number), text=text, created_at=NOW, polled_at=NOW))
        delivery.offer(Record("rows", where, offset, 0, str(number).encode(), value), 1)

    def published(topic: str) -> list[Any]:
        return list(itertools.chain(*(broker.logs.get((topic, number), []) for number in range(PARTITIONS))))

    most, back_after, given_up = 0.0, 0.0, {}
    seen: set[bytes] = set()
    watch = Watch("every row labelled or given up")
    while True:
        now, labeled, letters = time.monotonic(), len(published("labeled")), published("dead")
        if not most and labeled >= 0.9 * len(texts):
            most = now - began
        if stranger.back_at and labeled and not back_after:
            back_after = max(now - stranger.back_at, 1e-3)
        for letter in letters:
            if letter.key not in seen:
                seen.add(letter.key)
                text = texts[int(letter.key)]
                given_up[text] = now - stranger.first_at.get(text, now)
        if labeled + len(letters) >= len(texts):
            break
        watch.look((labeled, len(letters), client.stats["calls"]))
        await asyncio.sleep(0.02)
    headers = {
        texts[int(letter.key)]: {name: value.decode() for name, value in letter.headers}
        for letter in published("dead")
    }
    return Outcome(
        manner=stranger.manner,
        rows=len(texts),
        labeled=len(published("labeled")),
        innocent_letters=[text for text in headers if text not in stranger.ways],
        letters={text: found for text, found in headers.items() if text in stranger.ways},
        given_up_after={text: after for text, after in given_up.items() if text in stranger.ways},
        most_seconds=most,
        back_after=back_after,
        calls=client.stats["calls"],
        logs=list(logs),
    )


def report(outcome: Outcome, healthy: float) -> tuple[str, list[str]]:
    """One line about a round, and its broken promises. ``healthy``: seconds of the round without faults."""
    broken = list(outcome.faults)
    longest = max(outcome.given_up_after.values(), default=0.0)
    if longest > GIVEN_UP_SECONDS:
        broken.append(f"a text was tried for {longest:.0f} s")
    answered = 0.7 if outcome.manner in ("aborted", "errors") else 1.0
    rate = healthy / answered / outcome.most_seconds
    if outcome.manner == "refused":
        if outcome.back_after > BACK_SECONDS:
            broken.append(f"back {outcome.back_after:.1f} s after the endpoint")
    elif rate < RATE:
        broken.append(f"rate {rate:.2f}")
    last = f"rate {rate:.2f} of what the answers allow"
    if outcome.manner == "refused":
        last = f"back after {outcome.back_after:.1f} s"
    line = (
        f"{outcome.manner:<10} {outcome.labeled} labelled, {len(outcome.letters)} forbidden given up after "
        f"at most {longest:.1f} s, {len(outcome.innocent_letters)} innocent dead letters, "
        f"{outcome.calls} calls, {last}"
    )
    return line, broken


async def soak(rounds: int, rows: int, seed: int) -> bool:
    """Whether every round kept every promise."""
    healthy = (await play("healthy", rows=rows, seed=seed)).most_seconds
    print(f"healthy    {rows} rows, nine of ten after {healthy:.1f} s", flush=True)
    failed = 0
    for number in range(rounds):
        line, broken = report(
            await play(ROUNDS[number % len(ROUNDS)], rows=rows, seed=seed + number), healthy
        )
        failed += bool(broken)
        print(f"{number + 1:>3} {line}{'; BROKEN: ' + ', '.join(broken) if broken else ''}", flush=True)
    print(f"{rounds} rounds, {failed} broken", flush=True)
    return not failed


def main() -> None:
    """Parse the arguments and play."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.strangers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    sys.exit(0 if asyncio.run(soak(given.rounds, given.rows, given.seed)) else 1)


if __name__ == "__main__":
    main()
