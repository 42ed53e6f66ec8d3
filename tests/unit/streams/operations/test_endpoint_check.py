"""`check --endpoint` against servers of several kinds: what it finds, and what it says to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aiohttp import web

from streams.core.environment import load
from streams.operations.endpoint_check import check_endpoints
from tests.unit.connectors.llm.fakes import chat, serving, status, token_of


class Server:
    """A server whose abilities can be taken away. It would rather answer `4` than a letter."""

    def __init__(self, **abilities: Any) -> None:
        self.schema = True
        self.choice: str | None = "structured_outputs"
        self.tops = 20
        self.before = False
        self.refuses: tuple[str, ...] = ()
        self.thinks = False
        self.longest = 100_000
        vars(self).update(abilities)

    def __call__(self, body: dict[str, Any], _: web.BaseRequest) -> Any:
        for name in self.refuses:
            if name in body:
                return status(400, f"{name} is not supported")
        if sum(len(one["content"]) for one in body["messages"]) > self.longest:
            return status(400, "maximum context length exceeded")
        if self.choice is not None and self.choice in body:
            return self._say("A", body, {"4": 0.9, "A": 0.1} if self.before else {"A": 0.9, "B": 0.1})
        if self.schema and "response_format" in body:
            text = '{"label": "alpha"}'
            return self._say(f"<think>4?</think>{text}" if self.thinks else text, body, {})
        return self._say("4", body, {"4": 0.9, "four": 0.1})

    def _say(self, text: str, body: dict[str, Any], chances: dict[str, float]) -> dict[str, Any]:
        if not body.get("logprobs") or not self.tops:
            return chat(text)
        rest = {f"x{number}": 1e-4 for number in range(min(self.tops, body["top_logprobs"]) - 2)}
        entry = token_of(text, {text: 0.9, **chances, **rest})
        entry["top_logprobs"] = entry["top_logprobs"][: self.tops]
        return chat(text, logprobs={"content": [entry]})


async def found(server: Server, **settings: str) -> dict[str, tuple[bool, str]]:
    """Each finding by its short name: whether it is well, and everything that is said."""
    async with serving(server) as there:
        there.owner = "vllm"
        given = {"LLM_LABELER_API_BASE": there.url, "LLM_AUGMENTER_API_BASE": there.url} | settings
        findings = await check_endpoints(load(given, None))
    assert all(one.name.startswith("labeler endpoint, ") for one in findings)  # the same is tried once
    assert json.dumps([one.as_dict() for one in findings])
    assert not [one.message for one in findings if one.name.endswith(", answers")]
    return {one.name.split(", ", 1)[1]: (one.ok, one.line()) for one in findings}


async def test_a_server_that_has_everything() -> None:
    said = await found(Server())
    assert all(ok for ok, _ in said.values())
    assert "vLLM (version not told), model m" in said["server"][1]
    assert "taken as they are" in said["requests"][1]
    assert "held to a JSON schema" in said["schema"][1]
    assert "asked for as structured_outputs" in said["choice"][1]
    assert "20 alternatives a token, taken after the choice" in said["logprobs"][1]
    assert "the same answer" in said["the same text twice"][1]
    assert "8 together" in said["parallel calls"][1]
    assert "are taken" in said["longest prompt"][1]
    assert "mode json, with confidence" in said["what is used"][1]
    assert "LLM_LABELER_MODE — auto" in said["what is used"][1]


@pytest.mark.parametrize("mode", ["choice", "auto"])
async def test_the_mode_that_is_used(mode: str) -> None:
    assert "mode choice" in (await found(Server(), LLM_LABELER_MODE=mode))["what is used"][1]
    said = await found(Server(choice=None), LLM_LABELER_MODE=mode)
    assert "mode json" in said["what is used"][1]
    assert "not used" in said["choice"][1]


async def test_what_a_server_lacks_is_said_with_what_to_set() -> None:
    said = await found(
        Server(before=True, tops=5, refuses=("max_tokens", "temperature", "seed"), longest=8000)
    )
    assert "temperature, max_tokens (max_completion_tokens is sent)" in said["requests"][1]
    assert "taken before the choice is applied" in said["logprobs"][1]
    assert "--logprobs-mode processed_logprobs" in said["logprobs"][1]
    assert "only the model's own is taken, a seed is refused" in said["temperature and seed"][1]
    assert "shortened to 1000" in said["longest prompt"][1]
    said = await found(Server(schema=False, tops=0, thinks=True, refuses=("logprobs",)))
    assert "not held to the schema: '4'" in said["schema"][1]
    assert "labels have no confidence" in said["logprobs"][1]
    assert "mode json, without confidence" in said["what is used"][1]
    said = await found(Server(thinks=True))
    assert "turn thinking off" in said["thinking"][1]


async def test_without_an_address_each_model_says_what_to_set() -> None:
    findings = await check_endpoints(load({}, None))
    assert [(one.ok, one.setting) for one in findings] == [(False, "LLM_LABELER_API_BASE")]


async def test_an_endpoint_that_does_not_answer_is_one_failure_that_says_why() -> None:
    async with serving(Server()) as there:
        url = there.url
    findings = await check_endpoints(load({"LLM_LABELER_API_BASE": url, "LLM_AUGMENTER_API_BASE": url}, None))
    assert [(one.ok, one.setting) for one in findings] == [(False, "LLM_LABELER_API_BASE")]


async def test_of_a_role_only_the_models_that_it_asks_are_tried() -> None:
    told = load({"LLM_LABELER_API_BASE": "http://127.0.0.1:1", "LLM_AUGMENTER_MODEL": "other"}, None)
    settings = {
        role: [one.setting for one in await check_endpoints(told, role)] for role in ("agents", "api")
    }
    assert settings == {
        "agents": ["LLM_LABELER_API_BASE", "LLM_AUGMENTER_API_BASE"],
        "api": ["LLM_LABELER_API_BASE"],
    }
    (said,) = await check_endpoints(told, "sink")
    assert said.ok
    assert "sink asks no model" in said.line()
