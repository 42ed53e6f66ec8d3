"""What endpoints answer in their many shapes; keys, models, redirects and metrics."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
import structlog
from aiohttp import web

from connectors.llm import client as client_module
from connectors.llm.answer import TokenChance
from streams.core.errors import (
    REFUSAL,
    AccessError,
    AnswerError,
    ConfigurationError,
    RetryableError,
    UnavailableError,
)
from tests.unit.connectors.llm.fakes import ASK, chat, client_of, serving, status, token, until

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.mark.parametrize(
    "body",
    [b"", b"\x00\xff<html>", b'{"choices": [', b'{"object": "list", "data": []}', b"[]", b"null", b"1"],
)
async def test_a_body_that_is_no_completion_may_heal(body: bytes) -> None:
    async with serving(lambda *_: web.Response(body=body)) as there, client_of(there.url) as client:
        with pytest.raises(RetryableError) as caught:
            await client.complete(**ASK)
        assert type(caught.value) is RetryableError


async def test_a_connection_cut_in_the_middle_of_the_answer_may_heal() -> None:
    async def cut(_: Any, request: web.BaseRequest) -> Any:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"choices":')
        assert request.transport is not None
        request.transport.abort()
        return response

    async with serving(cut) as there, client_of(there.url) as client:
        with pytest.raises(UnavailableError):
            await client.complete(**ASK)


async def test_redirects_are_not_followed() -> None:
    async with serving(lambda *_: chat("elsewhere")) as elsewhere:
        target = f"{elsewhere.url}/chat/completions"
        async with serving(lambda *_: status(307, location=target)) as there, client_of(there.url) as client:
            with pytest.raises(ConfigurationError) as caught:
                await client.complete(**ASK)
        assert caught.value.setting == "LLM_LABELER_API_BASE"
        assert elsewhere.paths == []


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(lambda *_: chat("proxied")) as proxy, serving(lambda *_: chat("direct")) as there:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        async with client_of(there.url) as client:
            assert (await client.complete(**ASK)).text == "direct"
        assert proxy.paths == []


async def test_the_key_is_sent_and_never_shown() -> None:
    key = "sk-very-secret-0123456789"

    def script(_: Any, request: web.BaseRequest) -> Any:
        assert request.headers["authorization"] == f"Bearer {key}"
        return status(401, f"Incorrect API key provided: {key}")

    with structlog.testing.capture_logs() as logs:
        async with serving(script) as there, client_of(there.url, api_key=key) as client:
            with pytest.raises(AccessError) as caught:
                await client.complete(**ASK)
            shown = [
                str(caught.value),
                repr(caught.value),
                repr(client.state()),
                str(logs),
                repr(vars(client)),
            ]
        async with client_of("http://127.0.0.1:9/v1", api_key=key) as client:
            with pytest.raises(UnavailableError) as away:
                await client.complete(**ASK)
            shown += [str(away.value), repr(away.value.__cause__)]
    assert not [text for text in shown if key in text]
    assert "***" in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused_by_its_name() -> None:
    for key in ("ключ", "a\r\nb"):
        with pytest.raises(ConfigurationError) as caught:
            client_module.ChatClient(
                base_urls=["http://127.0.0.1:9/v1"],
                model="m",
                setting="LLM_LABELER_API_BASE",
                api_key=client_module.SecretStr(key),
            )
        assert caught.value.setting == "LLM_LABELER_API_KEY"
        assert key not in str(caught.value)


async def test_the_model_is_the_only_one_on_offer_or_must_be_named() -> None:
    async with serving(lambda *_: chat("ok")) as there:
        async with client_of(there.url, model=None) as client:
            await client.complete(**ASK)
            assert await client.model() == "m"
            assert there.paths.count("/v1/models") == 1
        there.models = ("a", "b")
        async with client_of(there.url, model=None) as client:
            with pytest.raises(ConfigurationError, match="a, b") as caught:
                await client.model()
        assert caught.value.setting == "LLM_LABELER_MODEL"
        there.models_status = 500
        async with client_of(there.url, model=None) as client:
            with pytest.raises(RetryableError):
                await client.model()


LLAMA_SERVER = {
    "choices": [
        {
            "finish_reason": "stop",
            "index": 0,
            "message": {"role": "assistant", "content": '{"label": "refund"}'},
            "logprobs": {"content": [{"id": 1, **token("refund", 0.9, other=0.1)}]},
        }
    ],
    "created": 1700000000,
    "model": "gpt-3.5-turbo",
    "system_fingerprint": "b1",
    "object": "chat.completion",
    "usage": {"completion_tokens": 9, "prompt_tokens": 100, "total_tokens": 109},
    "timings": {"prompt_n": 1, "predicted_per_second": 50.0},
}


async def test_answers_in_other_servers_shapes() -> None:
    shapes: list[tuple[Any, str, int]] = [
        (LLAMA_SERVER, '{"label": "refund"}', 9),
        (
            chat([{"type": "text", "text": '{"label":'}, {"type": "text", "text": ' "x"}'}]),
            '{"label": "x"}',
            7,
        ),
        (chat(None, reasoning_content='{"label": "x"}'), '{"label": "x"}', 7),
        (chat(None, reasoning_content="so {", finish="length"), "", 7),
        (chat("", reasoning_content='Maybe {"label": "x"}? No', finish="length"), "", 7),
        (chat("", reasoning_content='{"label": "x"}', finish="length"), "", 7),
        ({"choices": [{"message": {"content": "x"}}]}, "x", 0),
        ({"choices": [{"message": {"content": "x"}, "finish_reason": None}], "usage": None}, "x", 0),
        (chat("x", logprobs={"content": None}), "x", 7),
        (chat("x", logprobs={"tokens": ["x"], "token_logprobs": [-0.1]}), "x", 7),
        (chat("x", logprobs=[]), "x", 7),
    ]
    replies = [shape for shape, _, _ in shapes]
    async with serving(lambda *_: replies.pop(0)) as there, client_of(there.url) as client:
        for _, text, tokens in shapes:
            answer = await client.complete(**ASK)
            assert (answer.text, answer.output_tokens) == (text, tokens)


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_what_was_only_thought_is_an_empty_answer(field: str) -> None:
    thought: dict[str, Any] = {field: 'Maybe {"label": "x"}? No'}
    async with serving(lambda *_: chat(None, **thought)) as there, client_of(there.url) as client:
        with pytest.raises(AnswerError, match="empty"):
            await client.complete(**ASK)


async def test_impossible_tokens_are_told_in_many_ways() -> None:
    """Python servers write -Infinity, which is no JSON; others null, or -9999."""
    entry = '{"token": "a", "logprob": -Infinity, "top_logprobs": [{"token": "b", "logprob": null}]}'
    body = json.dumps(chat("a", logprobs={"content": ["HERE"]})).replace('"HERE"', entry)
    async with serving(lambda *_: web.Response(text=body)) as there, client_of(there.url) as client:
        answer = await client.complete(**ASK)
    assert answer.tokens is not None
    assert answer.tokens[0].logprob == float("-inf")
    assert answer.tokens[0].top == (("b", float("-inf")),)


async def test_a_refusal_in_its_own_field_is_the_answer() -> None:
    async with serving(lambda *_: chat(None, refusal="I will not.")) as there, client_of(there.url) as client:
        answer = await client.complete(**ASK)
    assert (answer.text, answer.finish_reason) == ("I will not.", REFUSAL)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"token": "\u2581A"}, " A"),
        ({"token": "\u0120A"}, " A"),
        ({"token": "\u010a"}, "\n"),
        ({"token": "<0x41>"}, "A"),
        ({"token": "<0x41>", "bytes": [65]}, "A"),
        ({"token": "\u0120A", "bytes": [32, 65]}, " A"),
        ({"token": "\ufffd", "bytes": [208]}, "\ufffd"),  # a part of a Cyrillic letter
        ({"token": "Ж", "bytes": [208, 150]}, "Ж"),
        ({"token": "A", "bytes": None}, "A"),
    ],
)
def test_tokens_in_the_spelling_of_a_vocabulary(entry: dict[str, Any], text: str) -> None:
    assert TokenChance(entry).token == text


def test_llama_server_tells_probabilities_after_sampling_by_other_names() -> None:
    entry = {
        "token": "A",
        "prob": 0.5,
        "top_probs": [{"token": "A", "prob": 0.5}, {"token": "B", "prob": 0.0}],
    }
    told = TokenChance(entry)
    assert (told.logprob, told.top) == (math.log(0.5), (("A", math.log(0.5)), ("B", -math.inf)))
    assert TokenChance({"token": "A", "logprob": None}).logprob == -math.inf
    assert TokenChance({"token": "A", "logprob": True}).logprob == -math.inf


async def test_metrics_are_asked_for_beside_v1_and_left_alone_where_there_are_none() -> None:
    async def slow(*_: Any) -> Any:
        await asyncio.sleep(0.3)
        return chat("ok")

    async with serving(slow) as there, client_of(there.url) as client:
        await asyncio.gather(*(client.complete(**ASK) for _ in range(2)))
        await until(lambda: "/metrics" in there.paths)
        for _ in range(5):
            await client.complete(**ASK)
        assert there.paths.count("/metrics") == 1
