"""A scripted endpoint for tests of the LLM client: a real server on loopback, and the shapes of answers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import SecretStr

from connectors.llm.client import ChatClient
from tests.waiting import eventually

Reply = web.StreamResponse | dict[str, Any]
Script = Callable[[dict[str, Any], web.BaseRequest], Awaitable[Reply] | Reply]
ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "q"}], "max_tokens": 5}


def ask(text: object) -> dict[str, Any]:
    """The same for another text."""
    return {"messages": [{"role": "user", "content": str(text)}], "max_tokens": 5}


def chat(content: Any, *, logprobs: Any = None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A completion as vLLM gives it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "tool_calls": [], **message},
                "logprobs": logprobs,
                "finish_reason": finish,
                "stop_reason": None,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17},
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }


def token(text: str, probability: float = 1.0, **others: float) -> dict[str, Any]:
    """One entry of `logprobs.content`; ``others``: further tokens that might have stood there."""
    return token_of(text, {text: probability, **others})


def token_of(text: str, chances: Mapping[str, float]) -> dict[str, Any]:
    """The same, for tokens that are no Python names."""
    tops = [
        {"token": other, "logprob": math.log(chance) if chance else -9999.0, "bytes": list(other.encode())}
        for other, chance in sorted(chances.items(), key=lambda item: -item[1])
    ]
    own = next(top for top in tops if top["token"] == text)
    return {**own, "top_logprobs": tops}


def status(code: int, text: str = "", **headers: str) -> web.Response:
    """An answer that is no completion."""
    return web.Response(
        status=code, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()}
    )


@dataclass
class Endpoint:
    """What was asked of the server, and where it is. ``script`` may be exchanged at any time."""

    script: Script
    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0
    hung_up: int = 0
    models: tuple[str, ...] = ("m",)
    models_status: int = 200
    owner: str = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.paths.append(request.path)
        self.headers.append(dict(request.headers))
        if request.path.endswith("/models"):
            if self.models_status != 200:
                return web.Response(status=self.models_status)
            return web.json_response({"data": [{"id": name, "owned_by": self.owner} for name in self.models]})
        if not request.path.endswith("/chat/completions"):
            return web.Response(status=404)
        body = await request.read()
        self.raw.append(body)
        self.asked.append(json.loads(body))
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            reply = self.script(self.asked[-1], request)
            if asyncio.iscoroutine(reply):
                reply = await reply
        except asyncio.CancelledError:
            self.hung_up += 1
            raise
        finally:
            self.in_flight -= 1
        return web.json_response(reply) if isinstance(reply, dict) else reply  # type: ignore[return-value]


@contextlib.asynccontextmanager
async def serving(script: Script, *, port: int = 0) -> AsyncIterator[Endpoint]:
    """The endpoint on a free port of 127.0.0.1."""
    endpoint = Endpoint(script)
    runner = web.ServerRunner(
        web.Server(endpoint.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.2
    )
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    host, bound = runner.addresses[0][:2]
    endpoint.url = f"http://{host}:{bound}/v1"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[ChatClient]:
    """A client that gives up soon, for tests of what it raises."""
    options = {"model": "m", "setting": "LLM_LABELER_API_BASE", "patience_seconds": 0.0} | options
    if isinstance(options.get("api_key"), str):
        options["api_key"] = SecretStr(options["api_key"])
    client = ChatClient(base_urls=url.split(","), **options)
    try:
        yield client
    finally:
        await client.close()


async def until(condition: Callable[[], Any]) -> None:
    """Wait for ``condition``, looking at it often."""
    await eventually(condition, pause=0.005)
