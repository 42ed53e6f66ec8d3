"""Several endpoints of one model: their slots are all used, one that fails leaves, and another model is
refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from connectors.llm.client import ChatClient
from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from tests.unit.connectors.llm.fakes import Endpoint, Script, chat, client_of, serving, until

NEVER = "http://127.0.0.1:1/v1"


class Held:
    """A script that answers when it is let to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def __call__(self, body: dict[str, Any], request: Any) -> dict[str, Any]:
        await self.go.wait()
        return chat("yes")


@contextlib.asynccontextmanager
async def two(concurrency: int = 4, **options: Any) -> AsyncIterator[tuple[Endpoint, Endpoint, ChatClient]]:
    """Two endpoints that hold their answers back, and a client of both, patient."""
    async with serving(Held()) as one, serving(Held()) as other:
        options = {"patience_seconds": float("inf"), "concurrency": concurrency} | options
        async with client_of(f"{one.url},{other.url}", **options) as client:
            for limit in (client._endpoints.all[0].limit, client._endpoints.all[1].limit):
                limit.pace._level = float(concurrency)
            yield one, other, client


def ask(client: ChatClient, number: int) -> asyncio.Task[Any]:
    messages = [{"role": "user", "content": f"question {number}"}]
    return asyncio.create_task(client.complete(messages, max_tokens=5))


def texts(endpoint: Endpoint) -> list[str]:
    return [asked["messages"][-1]["content"] for asked in endpoint.asked]


async def test_the_slots_of_all_are_used_and_no_call_waits_for_a_slow_one() -> None:
    async with two() as (fast, slow, client):
        calls = [ask(client, number) for number in range(30)]
        await until(lambda: fast.in_flight == slow.in_flight == 4)
        assert client.state().in_flight == 8
        await until(lambda: client.state().waiting == 22)
        fast.script.go.set()
        await until(lambda: len(fast.asked) == 26)  # all but those that the slow one holds
        await until(lambda: sum(call.done() for call in calls) == 26)
        assert len(slow.asked) == 4
        slow.script.go.set()
        await asyncio.gather(*calls)
        assert Counter(texts(fast) + texts(slow)) == Counter(f"question {number}" for number in range(30))
        assert client.state().in_flight == 0


async def test_calls_go_to_the_least_loaded_one() -> None:
    async with two() as (one, other, client):
        calls = [ask(client, 0)]
        await until(lambda: one.in_flight + other.in_flight == 1)
        calls.append(ask(client, 1))
        await until(lambda: one.in_flight == other.in_flight == 1)
        # One of them says that others' requests wait there.
        client._endpoints.all[0].limit._endpoint = type("Load", (), {"running": 4.0, "waiting": 9.0})()
        calls.append(ask(client, 2))
        await until(lambda: other.in_flight == 2)
        one.script.go.set()
        other.script.go.set()
        await asyncio.gather(*calls)


async def test_a_cancelled_call_waits_nowhere_and_holds_no_slot() -> None:
    async with two(concurrency=1) as (one, other, client):
        first = [ask(client, number) for number in range(2)]
        await until(lambda: one.in_flight == other.in_flight == 1)
        waiting = [ask(client, number) for number in range(2, 6)]
        await until(lambda: client.state().waiting == 4)
        for call in waiting:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        assert client.state().waiting == 0
        one.script.go.set()
        other.script.go.set()
        await asyncio.gather(*first, ask(client, 6), ask(client, 7))
        assert client.state().in_flight == 0
        assert not any(f"question {number}" in texts(one) + texts(other) for number in range(2, 6))


async def test_one_that_is_away_holds_no_calls_and_none_of_what_was_granted_elsewhere() -> None:
    async with two() as (one, other, client):
        other.models_status = 500
        await client.model()
        away = client._endpoints.all[1].limit
        assert client.available
        assert not away.available
        one.script.go.set()
        for number in range(50):
            await ask(client, number)
        assert other.asked == []
        assert len(away._live) <= 1
        assert f"{client._endpoints.all[1].name}: the endpoint failed" in client.state().reason


async def test_those_that_serve_different_models_are_refused() -> None:
    async with serving(Held()) as one, serving(Held()) as other:
        other.models = ("another",)
        for model in ("m", None):
            async with client_of(f"{one.url},{other.url}", model=model) as client:
                with pytest.raises(
                    ConfigurationError, match=r"different models: .* has another, and not m"
                ) as told:
                    await client.model()
                assert told.value.setting == "LLM_LABELER_API_BASE"
                assert other.url.split("/")[2] in str(told.value)
        other.models = ("m", "another")
        async with client_of(f"{one.url},{other.url}") as client:
            assert await client.model() == "m"
            assert await client.models() == ["m"]
        async with client_of(f"{one.url},{other.url}", model=None) as client:
            with pytest.raises(ConfigurationError, match="offers 2 models"):
                await client.model()


async def test_one_that_does_not_answer_at_the_start_comes_later_if_it_serves_the_model() -> None:
    async with serving(Held()) as one, serving(Held()) as other:
        one.script.go.set()
        other.script.go.set()
        other.models_status = 503
        options = {"patience_seconds": float("inf"), "model": None}
        async with client_of(f"{one.url},{other.url}", **options) as client:
            assert await client.model() == "m"
            states = [endpoint.limit.available for endpoint in client._endpoints.all]
            assert states == [True, False]
            await asyncio.gather(*(ask(client, number) for number in range(20)))
            assert other.asked == []
            other.models, other.models_status = ("another",), 200
            late = client._endpoints.all[1].limit
            await until(lambda: "different models" in str(late.away))
            other.models = ("m",)
            await until(lambda: late.available)
            await asyncio.gather(*(ask(client, number) for number in range(20)))
            assert other.asked


async def test_a_choice_is_used_only_if_all_are_held_to_it_in_one_form() -> None:
    def holding(*fields: str) -> Script:
        return lambda body, request: chat("A" if any(field in body for field in fields) else "4")

    for forms, held in (
        (("guided_choice", "guided_choice"), True),
        (("structured_outputs", "grammar"), False),
        (("structured_outputs", "none"), False),
    ):
        async with (
            serving(holding(forms[0])) as one,
            serving(holding(forms[1])) as other,
            client_of(f"{one.url},{other.url}", patience_seconds=30.0) as client,
        ):
            assert await client.holds_choice(["A", "B"]) is held
            assert client.capabilities("m").choice == forms[0]


async def test_with_none_that_answers_the_first_error_is_raised() -> None:
    async with client_of(f"{NEVER},{NEVER.replace(':1/', ':2/')}", model=None) as client:
        with pytest.raises(UnavailableError):
            await client.model()


def test_the_setting_takes_several_urls() -> None:
    settings = Settings(llm_labeler_api_base="http://a:8000/v1 , https://b/v1,http://a:8000/v1")
    assert settings.api_bases("labeler") == ["http://a:8000/v1", "https://b/v1"]
    assert settings.api_bases("augmenter") == []
    for wrong in ("http://a:8000/v1,", "http://a:8000/v1 http://b/v1", "a:8000", "http://a/v1,b/v1"):
        with pytest.raises(ValueError, match="llm_labeler_api_base"):
            Settings(llm_labeler_api_base=wrong)
