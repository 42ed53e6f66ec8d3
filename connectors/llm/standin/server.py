"""The stand-in's HTTP side: vLLM's routes and error format, over slots, a queue and a latency."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

from connectors.llm.standin.answers import StandinAnswer, answer, logprobs_of, text_of
from connectors.llm.standin.faults import Fault, Faults
from connectors.llm.standin.slots import Slots, Stats
from connectors.llm.standin.words import Scorer

OWNER = "stand-in, not a language model"
_MOST_LOGPROBS = 20


@dataclass(frozen=True)
class Manner:
    """How the stand-in behaves. Times are seconds.

    ``queue``: requests that may wait for a slot; beyond them it answers ``full_status`` (429 or 503).
    """

    models: tuple[str, ...] = ("labelstream-standin",)
    slots: int = 64
    queue: int = 10_000
    full_status: int = 503
    prefill_seconds: float = 0.02
    token_seconds: float = 0.002
    context: int = 32_768
    logprobs: bool = True
    metrics: bool = True
    api_key: str | None = None


# What `POST /manner` may change while the stand-in runs.
_CHANGEABLE = {
    "slots": int,
    "queue": int,
    "full_status": int,
    "prefill_seconds": float,
    "token_seconds": float,
    "context": int,
    "logprobs": bool,
    "metrics": bool,
}


class StandinProblem(Exception):
    """An error that is returned in vLLM's format."""

    def __init__(self, status: int, kind: str, message: str, retry_after: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.retry_after = retry_after


class StandIn:
    """The server. ``handle`` is an aiohttp low-level handler: a router would reduce the rate by a tenth."""

    def __init__(self, scorer: Scorer, manner: Manner) -> None:
        self._scorer = scorer
        self._manner = manner
        self.stats = Stats()
        self.faults = Faults()
        self._slots = Slots(manner.slots, self.stats)
        self._started = time.time()
        self._routes: dict[tuple[str, str], Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            ("POST", "/v1/chat/completions"): self._chat,
            ("GET", "/v1/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/metrics"): self._metrics,
            ("GET", "/stats"): self._stats,
            ("GET", "/stats/texts"): self._texts,
            ("GET", "/faults"): self._show_faults,
            ("POST", "/faults"): self._set_faults,
            ("DELETE", "/faults"): self._set_faults,
            ("GET", "/manner"): self._show_manner,
            ("POST", "/manner"): self._set_manner,
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """StandinAnswer one request."""
        route = self._routes.get((request.method, request.path))
        try:
            if route is None:
                raise StandinProblem(404, "NotFoundError", "Not Found")
            key = self._manner.api_key if request.path.startswith("/v1/") else None
            if key and request.headers.get("Authorization") != f"Bearer {key}":
                raise StandinProblem(401, "AuthenticationError", "Unauthorized")
            response = await route(request)
        except StandinProblem as problem:
            response = _error(problem)
        except asyncio.CancelledError:
            self.stats.cancelled += 1
            raise
        if request.path == "/v1/chat/completions":
            self.stats.statuses[response.status] += 1
        return response

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        body = _parse(await request.read())
        self._check(body)
        made = answer(body, self._scorer)
        fault = self.faults.strike(made.kind, made.query, body["model"])
        self._count(made, body)
        if fault is not None and fault.kind == "unknown_label":
            made = answer(body, self._scorer, unknown_label=True)
        if self._slots.full and len(self._slots.waiting) >= self._manner.queue:
            raise StandinProblem(
                self._manner.full_status, "ServiceUnavailableError", "The queue is full", "1"
            )
        prompt_tokens = sum(len(text_of(one)) for one in body["messages"]) // 3
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or self._manner.context
        if prompt_tokens > self._manner.context:
            raise StandinProblem(
                400,
                "BadRequestError",
                f"This model's maximum context length is {self._manner.context} tokens. However, your "
                f"request has {prompt_tokens} input tokens. Please reduce the length of the input messages.",
            )
        finish = "stop"
        if len(made.tokens) > limit or (fault is not None and fault.kind == "truncated_answer"):
            made.tokens = made.tokens[: min(limit, max(1, len(made.tokens) // 2))]
            made.text = "".join(token.text for token in made.tokens)
            finish = "length"
        seconds = self._manner.prefill_seconds + len(made.tokens) * self._manner.token_seconds
        self._note_in_flight()
        await self._slots.hold(seconds * (fault.factor if fault is not None and fault.kind == "slow" else 1))
        self.stats.prompt_tokens += prompt_tokens
        self.stats.completion_tokens += len(made.tokens)
        if fault is not None and fault.kind == "bad_answer":
            made.text = "Извините, я не могу ответить на этот вопрос."
        payload = self._completion(body, made, finish, prompt_tokens)
        if fault is not None and fault.kind != "slow":
            return await _spoil(fault, payload, request)
        self.stats.answered[made.kind] += 1
        return web.Response(body=payload, content_type="application/json")

    def _note_in_flight(self) -> None:
        now = self.stats.running + len(self._slots.waiting) + 1
        self.stats.most_in_flight = max(self.stats.most_in_flight, now)

    def _check(self, body: dict[str, Any]) -> None:
        model = body.get("model")
        if model not in self._manner.models:
            raise StandinProblem(404, "NotFoundError", f"The model `{model}` does not exist.")
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
            raise StandinProblem(400, "BadRequestError", "messages: a list of messages is needed")
        if (body.get("top_logprobs") or 0) > _MOST_LOGPROBS:
            raise StandinProblem(400, "BadRequestError", f"top_logprobs must be at most {_MOST_LOGPROBS}")

    def _count(self, made: StandinAnswer, body: dict[str, Any]) -> None:
        self.stats.calls[made.kind] += 1
        self.stats.texts.setdefault(made.kind, Counter())[_digest(made.query)] += 1
        system = "".join(text_of(one) for one in body["messages"] if one.get("role") == "system")
        self.stats.systems.add(_digest(made.kind + system))

    def _completion(
        self, body: dict[str, Any], made: StandinAnswer, finish: str, prompt_tokens: int
    ) -> bytes:
        logprobs = None
        if body.get("logprobs") and self._manner.logprobs:
            logprobs = logprobs_of(made.tokens, body.get("top_logprobs") or 0)
        return orjson.dumps(
            {
                "id": f"chatcmpl-standin-{self.stats.calls.total()}",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": body["model"],
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": made.text, "tool_calls": []},
                        "logprobs": logprobs,
                        "finish_reason": finish,
                        "stop_reason": None,
                    }
                ],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": len(made.tokens),
                    "total_tokens": prompt_tokens + len(made.tokens),
                },
                "system_fingerprint": OWNER,
            }
        )

    async def _models(self, _: web.BaseRequest) -> web.Response:
        return _json(
            {
                "object": "list",
                "data": [
                    {
                        "id": model,
                        "object": "model",
                        "created": int(self._started),
                        "owned_by": OWNER,
                        "root": model,
                        "parent": None,
                        "max_model_len": self._manner.context,
                    }
                    for model in self._manner.models
                ],
            }
        )

    async def _health(self, _: web.BaseRequest) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.BaseRequest) -> web.Response:
        if not self._manner.metrics:
            raise StandinProblem(404, "NotFoundError", "Not Found")
        label = f'{{model_name="{self._manner.models[0]}"}}'
        lines = []
        for name, kind, value in (
            ("num_requests_running", "gauge", self.stats.running),
            ("num_requests_waiting", "gauge", len(self._slots.waiting)),
            ("prompt_tokens_total", "counter", self.stats.prompt_tokens),
            ("generation_tokens_total", "counter", self.stats.completion_tokens),
        ):
            lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{label} {float(value)}"]
        return web.Response(text="\n".join(lines) + "\n")

    async def _stats(self, _: web.BaseRequest) -> web.Response:
        stats = self.stats
        return _json(
            {
                "server": OWNER,
                "calls": dict(stats.calls),
                "answered": dict(stats.answered),
                "statuses": {str(status): count for status, count in stats.statuses.items()},
                "distinct_texts": {kind: len(texts) for kind, texts in stats.texts.items()},
                "repeated_calls": {k: texts.total() - len(texts) for k, texts in stats.texts.items()},
                "distinct_system_parts": len(stats.systems),
                "in_flight": stats.running + len(self._slots.waiting),
                "max_in_flight": stats.most_in_flight,
                "cancelled": stats.cancelled,
                "faults": self.faults.struck,
                "tokens": {"prompt": stats.prompt_tokens, "completion": stats.completion_tokens},
            }
        )

    async def _texts(self, _: web.BaseRequest) -> web.Response:
        return _json({kind: dict(texts) for kind, texts in self.stats.texts.items()})

    async def _show_manner(self, _: web.BaseRequest) -> web.Response:
        return _json({name: getattr(self._manner, name) for name in _CHANGEABLE})

    async def _set_manner(self, request: web.BaseRequest) -> web.Response:
        """Change the behaviour from now on: `{"slots": 16}`. Other values stay as they were."""
        asked = _parse(await request.read())
        for name, value in asked.items():
            kind = _CHANGEABLE.get(name)
            fits = isinstance(value, (int, float) if kind is float else kind) if kind else False
            if not fits or (isinstance(value, bool) is not (kind is bool)) or value < 0:
                raise StandinProblem(400, "BadRequestError", f"{name}: {value!r} cannot be set")
        self._manner = replace(self._manner, **asked)
        self._slots.resize(self._manner.slots)
        return await self._show_manner(request)

    async def _show_faults(self, _: web.BaseRequest) -> web.Response:
        return _json(self.faults.show())

    async def _set_faults(self, request: web.BaseRequest) -> web.Response:
        asked = _parse_any(await request.read()) if request.method == "POST" else []
        try:
            faults = [Fault.model_validate(one) for one in (asked if isinstance(asked, list) else [asked])]
        except ValidationError as error:
            raise StandinProblem(400, "BadRequestError", str(error)) from None
        self.faults.set(faults)
        return _json(self.faults.show())


async def _spoil(fault: Fault, payload: bytes, request: web.BaseRequest) -> web.StreamResponse:
    """Apply ``fault`` to an answer that is ready."""
    if fault.kind == "status":
        raise StandinProblem(
            fault.status, "InternalServerError", "A fault that was asked for", fault.retry_after
        )
    if fault.kind == "hang":
        await asyncio.Event().wait()
    if fault.kind == "drop":
        _hang_up(request)
    if fault.kind == "cut":
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.content_length = len(payload)
        await response.prepare(request)
        await response.write(payload[: len(payload) // 2])
        _hang_up(request)
        return response
    spoiled = {
        "garbage": b"\x00\xff<html>gateway says hello</html>",
        "truncated_json": payload[: len(payload) // 2],
        "wrong_json": b'{"object":"list","data":[]}',
    }
    return web.Response(body=spoiled.get(fault.kind, payload), content_type="application/json")


def _hang_up(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


def _digest(text: str) -> str:
    return blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()


def _parse(content: bytes) -> dict[str, Any]:
    body = _parse_any(content)
    if not isinstance(body, dict):
        raise StandinProblem(400, "BadRequestError", "the body is not a JSON object")
    return body


def _parse_any(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise StandinProblem(400, "BadRequestError", f"the body is not JSON: {error}") from None


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")


def _error(problem: StandinProblem) -> web.Response:
    response = _json(
        {"error": {"message": str(problem), "type": problem.kind, "param": None, "code": problem.status}}
    )
    response.set_status(problem.status)
    if problem.retry_after is not None:
        response.headers["Retry-After"] = problem.retry_after
    return response
