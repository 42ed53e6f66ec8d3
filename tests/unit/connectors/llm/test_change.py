"""An endpoint takes less or more than it did: another server or build answers behind the same address."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from connectors.llm.client import ChatClient
from streams.core.errors import AnswerError
from tests.unit.connectors.llm.fakes import Endpoint, chat, client_of, serving, status, until
from tests.unit.connectors.llm.test_blame import patient
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("short_pauses")

Refuses = Callable[[dict[str, Any]], bool]


@pytest.fixture(autouse=True)
def _short_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.llm.client._LONGEST_PAUSE", 0.05)


def label(text: object) -> dict[str, Any]:
    """A request with each part that may be refused."""
    return {
        "messages": [{"role": "system", "content": "Choose."}, {"role": "user", "content": str(text)}],
        "max_tokens": 60,
        "schema": {"type": "object"},
        "logprobs": 20,
    }


def refusing(refuses: Refuses, said: str = "Bad Request") -> Callable[..., Any]:
    return lambda body, _: status(400, said) if refuses(body) else chat("ok")


async def answered(client: ChatClient, texts: range) -> None:
    calls = (client.complete(**label(number)) for number in texts)
    found = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    assert {one.text for one in found} == {"ok"}


def warnings(logs: list[Any]) -> list[str]:
    return [one["event"] for one in logs if one["log_level"] == "warning"]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        (lambda b: "temperature" in b, "'temperature' is not supported"),
        (lambda b: "max_tokens" in b, "Bad Request"),
        (lambda b: b.get("response_format", {}).get("type") == "json_schema", "Bad Request"),
        (lambda b: b.get("top_logprobs", 0) > 5, "Bad Request"),
        (lambda b: "logprobs" in b or b["messages"][0]["role"] == "system", "Bad Request"),
    ],
)
async def test_what_is_refused_later_is_found_out_once_and_left_out(refuses: Refuses, said: str) -> None:
    with structlog.testing.capture_logs() as logs:
        async with patient(lambda *_: chat("ok"), concurrency=8) as (there, client):
            await answered(client, range(10))
            there.script = refusing(refuses, said)
            await answered(client, range(10, 60))
            refused = sum(refuses(body) for body in there.asked[10:])
            assert not refuses(there.asked[-1])
            assert client.available
    assert refused < 250  # each row a few times, and the forms that were tried
    assert warnings(logs) == ["the endpoint refuses what it took before, and is asked otherwise from now on"]
    assert said in next(one["why"] for one in logs if one["log_level"] == "warning")


async def test_a_part_with_another_name_is_taken_under_its_first_name_again() -> None:
    """`max_completion_tokens` replaced `max_tokens`, and the next server knows the older name only."""
    async with patient(refusing(lambda b: "max_tokens" in b), concurrency=4) as (there, client):
        await answered(client, range(5))
        assert "max_completion_tokens" in there.asked[-1]
        there.script = refusing(lambda b: "max_completion_tokens" in b)
        await answered(client, range(5, 20))
        assert there.asked[-1]["max_tokens"] == 60
        assert there.asked[-1]["top_logprobs"] == 20


async def test_what_is_refused_after_an_outage_does_not_keep_the_endpoint_away() -> None:
    async with patient(lambda *_: chat("ok"), concurrency=4) as (there, client):
        await answered(client, range(5))
        there.script = lambda *_: status(502, "bad gateway")
        calls = asyncio.create_task(answered(client, range(5, 20)))
        await until(lambda: not client.available)
        there.script = refusing(lambda b: "temperature" in b)
        await calls
        assert "temperature" not in there.asked[-1]
        assert there.asked[-1]["top_logprobs"] == 20


async def test_an_endpoint_that_refused_everything_for_a_while_is_asked_as_before() -> None:
    async with patient(lambda *_: chat("ok"), concurrency=4) as (there, client):
        await answered(client, range(5))
        there.script = lambda *_: status(400, "budget exceeded")
        before = len(there.asked)
        calls = asyncio.create_task(answered(client, range(5, 20)))
        await until(lambda: not client.available)
        asked = len(there.asked)
        assert asked - before < 80
        # While it is away, only probes are sent.
        await until(lambda: len(there.asked) >= asked + 2)
        there.script = lambda *_: chat("ok")
        await calls
        last = there.asked[-1]
        assert (last["top_logprobs"], last["temperature"], "response_format" in last) == (20, 0.0, True)


async def test_an_endpoint_that_is_back_while_forms_are_tried_is_asked_as_before() -> None:
    """Otherwise the form that was tried just then would be used for good."""
    tried = asyncio.Event()

    def script(body: dict[str, Any], _: Any) -> Any:
        if refusing_all and "response_format" not in body:
            tried.set()
        return status(400, "no budget") if refusing_all and not tried.is_set() else chat("ok")

    refusing_all = False
    async with patient(script, concurrency=4) as (there, client):
        await answered(client, range(5))
        refusing_all = True
        await answered(client, range(5, 20))
        assert tried.is_set()
        assert "response_format" in there.asked[-1]


async def test_another_server_after_an_outage_is_asked_for_all_again() -> None:
    with structlog.testing.capture_logs() as logs:
        async with patient(refusing(lambda b: "logprobs" in b, "no logprobs"), concurrency=4) as (
            there,
            client,
        ):
            there.owner = "vllm"
            await answered(client, range(5))
            await until(lambda: client._endpoints.all[0]._watch.server is not None)
            assert "logprobs" not in there.asked[-1]
            there.script = lambda *_: status(502, "bad gateway")
            calls = asyncio.create_task(answered(client, range(5, 20)))
            await until(lambda: not client.available)
            there.script, there.owner = (lambda *_: chat("ok")), "sglang"
            await calls
            await until(lambda: "another server" in " ".join(warnings(logs)))
            await answered(client, range(20, 25))
            assert there.asked[-1]["top_logprobs"] == 20
    changed = [one for one in logs if "another server" in one["event"]]
    assert len(changed) == 1
    assert (changed[0]["before"][:5], changed[0]["now"][:6]) == ("vLLM ", "SGLang")


async def test_the_same_server_after_an_outage_is_asked_as_before() -> None:
    async with patient(refusing(lambda b: "logprobs" in b, "no logprobs"), concurrency=4) as (there, client):
        await answered(client, range(5))
        taking = there.script
        there.script = lambda *_: status(502, "bad gateway")
        calls = asyncio.create_task(answered(client, range(5, 20)))
        await until(lambda: not client.available)
        before, there.script = len(there.asked), taking
        await calls
        looking = client._endpoints.all[0]._watch.looking
        assert looking is not None
        await looking
        await answered(client, range(20, 25))
        assert not any("logprobs" in body for body in there.asked[before + 1 :])


def holding(field: str, *, refuse: bool) -> Callable[..., Any]:
    def script(body: dict[str, Any], _: Any) -> Any:
        if field in body:
            return chat("A")
        unknown = [
            name for name in ("structured_outputs", "guided_choice", "grammar", "regex") if name in body
        ]
        return status(400, f"extra inputs are not permitted: {unknown}") if refuse and unknown else chat("ok")

    return script


@pytest.mark.parametrize("later", ["guided_choice", "none"])
async def test_a_form_of_choice_that_is_refused_later_is_found_again(later: str) -> None:
    async def choose(number: int) -> str:
        question = [{"role": "user", "content": str(number)}]
        try:
            chosen = await client.complete(
                question, choice=["A", "B"], max_tokens=1, logprobs=2, at_once=(AnswerError,)
            )
        except AnswerError:
            return "asked otherwise"
        return chosen.text

    async with patient(holding("structured_outputs", refuse=True), concurrency=4) as (there, client):
        assert await client.holds_choice(["A", "B"])
        assert await choose(0) == "A"
        there.script = holding(later, refuse=True)
        calls = asyncio.gather(*(choose(number) for number in range(1, 20)))
        texts = await asyncio.wait_for(calls, PATIENCE)
        assert set(texts) == ({"A"} if later == "guided_choice" else {"asked otherwise"})
        assert await client.holds_choice(["A", "B"]) is (later == "guided_choice")
        assert len(there.asked) < 150


async def test_each_of_several_endpoints_is_asked_in_the_form_that_it_takes() -> None:
    def asked_of(there: Endpoint) -> list[dict[str, Any]]:
        return [body for body in there.asked if body["messages"][-1]["content"].isdigit()]

    async with (
        serving(refusing(lambda b: "logprobs" in b, "no logprobs")) as one,
        serving(refusing(lambda b: "temperature" in b, "no temperature")) as other,
        client_of(f"{one.url},{other.url}", patience_seconds=float("inf"), concurrency=4) as client,
    ):
        await answered(client, range(40))
        await answered(client, range(40, 80))
        told = client.form
    late = asked_of(one)[-5:], asked_of(other)[-5:]
    assert all("logprobs" not in body and body["temperature"] == 0.0 for body in late[0])
    assert all("temperature" not in body and body["top_logprobs"] == 20 for body in late[1])
    assert len(asked_of(one)) + len(asked_of(other)) < 80 + 30
    assert "0 logprobs; " in told
    assert told.endswith("20 logprobs, no temperature")


@pytest.mark.parametrize("late", ["guided_choice", "none"])
async def test_an_endpoint_that_comes_later_is_tried_for_a_choice_before_it_is_asked_for_one(
    late: str,
) -> None:
    async def choose(number: int) -> str:
        question = [{"role": "user", "content": str(number)}]
        options = {"choice": ["A", "B"], "max_tokens": 1, "logprobs": 2, "at_once": (AnswerError,)}
        try:
            return (await client.complete(question, **options)).text  # type: ignore[arg-type]
        except AnswerError:
            return "asked otherwise"

    async with (
        serving(holding("guided_choice", refuse=False)) as one,
        serving(holding(late, refuse=False)) as other,
        client_of(f"{one.url},{other.url}", patience_seconds=float("inf"), concurrency=4) as client,
    ):
        other.models_status = 503
        assert await client.holds_choice(["A", "B"])
        assert not other.asked
        other.models_status = 200
        await until(lambda: client._endpoints.all[1].limit.available)
        texts = await asyncio.wait_for(asyncio.gather(*(choose(number) for number in range(40))), PATIENCE)
        assert set(texts) <= {"A", "asked otherwise"}
        assert ("asked otherwise" in texts) is (late == "none")
        assert await client.holds_choice(["A", "B"]) is (late == "guided_choice")
        rows = [body for body in other.asked if body["messages"][-1]["content"].isdigit()]
        assert bool(rows) is (late == "guided_choice")
        assert all("guided_choice" in body for body in rows)
