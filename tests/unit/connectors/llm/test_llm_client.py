"""The client against a real server: what is tried again, what is not, and what nothing may do."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import structlog
from aiohttp import web

from streams.core.errors import (
    TOO_LONG,
    AccessError,
    ConfigurationError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from streams.ports.spans import ModelCall
from tests.unit.connectors.llm.fakes import ASK, ask, chat, client_of, serving, status, until
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("short_pauses")


async def test_what_is_asked_for() -> None:
    async with serving(lambda *_: chat("ok")) as there, client_of(there.url) as client:
        schema = {"type": "object"}
        answer = await client.complete(**ASK, schema=schema, logprobs=5, temperature=0.7)
        await client.complete(**ASK, choice=["A", "B"])
    assert answer.text == "ok"
    assert (answer.model, answer.finish_reason, answer.output_tokens) == ("m", "stop", 7)
    first, second = there.asked
    assert first == {
        "model": "m",
        "messages": ASK["messages"],
        "max_tokens": 5,
        "temperature": 0.7,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        },
        "logprobs": True,
        "top_logprobs": 5,
    }
    assert second["structured_outputs"] == {"choice": ["A", "B"]}
    assert "response_format" not in second


async def test_a_gateway_that_compresses_where_it_may() -> None:
    def compressed(*_: Any) -> web.Response:
        answer = web.json_response(chat("ok" * 500))
        answer.enable_compression()
        return answer

    async with serving(compressed) as there, client_of(there.url) as client:
        assert (await client.complete(**ASK)).text == "ok" * 500


async def test_a_gateway_that_decompresses_and_leaves_the_header_and_creates_answers() -> None:
    def left(*_: Any) -> web.Response:
        return web.json_response(chat("ok"), status=201, headers={"content-encoding": "br"})

    async with serving(left) as there, client_of(there.url) as client:
        assert (await client.complete(**ASK)).text == "ok"


@pytest.mark.parametrize("code", [408, 425, 429, 500, 502, 503, 504])
async def test_what_may_heal_is_tried_again(code: int) -> None:
    replies = [status(code, retry_after="0"), status(code), chat("ok")]
    there = serving(lambda *_: replies.pop(0) if replies else chat("ok"))
    async with there as endpoint, client_of(endpoint.url, patience_seconds=PATIENCE) as client:
        assert (await client.complete(**ASK)).text == "ok"
        assert client.stats["retries"] <= 2
        assert client.available


@pytest.mark.parametrize(
    ("code", "kind", "setting"),
    [
        (401, AccessError, "LLM_LABELER_API_KEY"),
        (403, AccessError, "LLM_LABELER_API_KEY"),
        (404, ConfigurationError, "LLM_LABELER_MODEL"),
    ],
)
async def test_what_a_person_must_mend_is_not_hammered(
    code: int, kind: type[ConfigurationError], setting: str
) -> None:
    there, options = serving(lambda *_: status(code, "nope")), {"patience_seconds": 1.0}
    async with there as endpoint, client_of(endpoint.url, **options) as client:
        found = await asyncio.gather(*(client.complete(**ask(n)) for n in range(20)), return_exceptions=True)
        assert {type(one) for one in found} == {kind}
        assert {one.setting for one in found if isinstance(one, ConfigurationError)} == {setting}
        assert len(endpoint.asked) < 20
        assert not client.available
        assert client.state().limit == 0


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_refused_request_is_not_repeated(code: int) -> None:
    async with serving(lambda *_: chat("ok")) as there, client_of(there.url) as client:
        await client.complete(**ASK)
        there.script = lambda *_: status(code, "bad field")
        with pytest.raises(RefusedError, match="bad field"):
            await client.complete(**ASK)
        assert len(there.asked) == 2
        assert client.available
        assert client.limit.in_flight == 0


async def test_a_text_too_long_is_told_apart() -> None:
    said = "This model's maximum context length is 10 tokens"
    async with serving(lambda *_: status(400, said)) as there, client_of(there.url) as client:
        with pytest.raises(RefusedError) as caught:
            await client.complete(**ASK)
    assert caught.value.reason == TOO_LONG


async def test_retry_after_is_kept() -> None:
    replies = [status(429, retry_after="1"), chat("ok")]
    there = serving(lambda *_: replies.pop(0))
    async with there as endpoint, client_of(endpoint.url, patience_seconds=PATIENCE) as client:
        began = time.monotonic()
        await client.complete(**ASK)
        assert time.monotonic() - began >= 1.0


async def test_what_fails_for_one_request_while_others_succeed_is_given_back() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(500, "poison") if body["messages"][0]["content"] == "poison" else chat("ok")

    async with serving(script) as there, client_of(there.url, patience_seconds=600.0) as client:
        others = asyncio.create_task(_keep_asking(client))
        poison = client.complete(messages=[{"role": "user", "content": "poison"}], max_tokens=5)
        with pytest.raises(RefusedError, match="poison") as caught:
            await asyncio.wait_for(poison, PATIENCE)
        assert caught.value.reason == "gave-up"
        assert caught.value.attempts >= 3
        assert client.available
        others.cancel()


async def test_one_row_alone_is_not_blamed_for_an_outage() -> None:
    """It fails again and again, and others had been answered before: it waits all the same."""
    replies: list[Any] = [chat("before")]
    failing = serving(lambda *_: replies.pop(0) if replies else status(500))
    async with failing as there, client_of(there.url, patience_seconds=600.0) as client:
        await client.complete(**ASK)
        call = asyncio.create_task(client.complete(**ASK))
        await until(lambda: len(there.asked) >= 7)
        assert not call.done()
        there.script = lambda *_: chat("ok")
        assert (await asyncio.wait_for(call, PATIENCE)).text == "ok"


async def test_a_long_retry_after_does_not_outlast_the_outage() -> None:
    down = True
    failing = serving(lambda *_: status(503, retry_after="60") if down else chat("ok"))
    async with failing as there, client_of(there.url, patience_seconds=600.0, concurrency=2) as client:
        calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(8)]
        await until(lambda: not client.available)
        down = False
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)


async def test_an_outage_behind_a_list_of_models_that_answers_is_not_hammered() -> None:
    """A gateway is up and what stands behind it is not: a harmless text is sent now and then."""
    down = True
    failing = serving(lambda *_: status(503, retry_after="60") if down else chat("ok"))
    async with failing as there, client_of(there.url, patience_seconds=600.0) as client:
        client.limit.pace._level = 32.0
        calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(40)]
        await until(lambda: not client.available and client.limit.in_flight == 0)
        burnt = len(there.asked)
        await until(lambda: len(there.asked) - burnt >= 2)
        assert all("где мой заказ" in one["messages"][0]["content"] for one in there.asked[burnt:])
        down = False
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)


async def _keep_asking(client: Any) -> None:
    while True:
        await client.complete(**ASK)


async def test_an_outage_makes_calls_wait_and_all_go_on_when_it_is_over() -> None:
    down = True
    async with serving(lambda *_: status(503) if down else chat("ok")) as there:
        there.models_status = 503
        async with client_of(there.url, patience_seconds=60.0, concurrency=8) as client:
            client.limit.pace._level = 8.0
            calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(30)]
            await until(lambda: not client.available)
            burnt = len(there.asked)
            await asyncio.sleep(1.0)
            assert len(there.asked) - burnt <= 8  # those that were on their way
            assert not any(call.done() for call in calls)
            down, there.models_status = False, 200
            found = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
            assert {one.text for one in found} == {"ok"}
            assert client.available


async def test_a_server_that_comes_back_on_its_port_is_found_again() -> None:
    async with serving(lambda *_: chat("ok")) as there:
        url = there.url
        port = int(url.split(":")[2].split("/")[0])
    with structlog.testing.capture_logs() as logs:
        async with client_of(url, patience_seconds=60.0) as client:
            calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(5)]
            await until(lambda: not client.available)
            async with serving(lambda *_: chat("ok"), port=port):
                await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
    said = [entry for entry in logs if "endpoint" in entry["event"]]
    assert [entry["event"] for entry in said] == [
        "the endpoint is away, nothing is sent to it",
        "the endpoint is back",
    ]
    assert said[0]["setting"] == "LLM_LABELER_API_BASE"


async def test_patience_ends_with_the_reason() -> None:
    async with client_of("http://127.0.0.1:9/v1", patience_seconds=0.3) as client:
        with pytest.raises(UnavailableError) as caught:
            await client.complete(**ASK)
        assert caught.value.setting == "LLM_LABELER_API_BASE"
    async with serving(lambda *_: status(429)) as there, client_of(there.url) as client:
        with pytest.raises(OverloadedError):
            await client.complete(**ASK)


async def test_a_cancelled_call_frees_its_place_at_once_and_hangs_up() -> None:
    async def hang(*_: Any) -> Any:
        await asyncio.Event().wait()

    async with serving(hang) as there, client_of(there.url, concurrency=1) as client:
        call = asyncio.create_task(client.complete(**ASK))
        await until(lambda: there.in_flight == 1)
        call.cancel()
        await asyncio.wait([call])
        assert client.limit.in_flight == 0
        await until(lambda: there.hung_up == 1)
        there.script = lambda *_: chat("ok")
        assert (await client.complete(**ASK)).text == "ok"


async def test_no_more_than_the_concurrency_are_in_flight() -> None:
    async def slow(*_: Any) -> Any:
        await asyncio.sleep(0.02)
        return chat("ok")

    async with serving(slow) as there, client_of(there.url, concurrency=4, patience_seconds=60.0) as client:
        await asyncio.gather(*(client.complete(**ask(n)) for n in range(60)))
        assert there.most_in_flight == 4


async def test_an_answer_that_does_not_come_in_time_fails() -> None:
    async def trickle(_: Any, request: web.BaseRequest) -> Any:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:  # a byte now and then: the time-out is for the whole answer
            await response.write(b" ")
            await asyncio.sleep(0.02)

    async with serving(trickle) as there, client_of(there.url, timeout_seconds=0.3) as client:
        with pytest.raises(RetryableError, match="in time"):
            await client.complete(**ask("a long text"))
        assert client.state().reason == "start"  # it may be for its text
        with pytest.raises(RetryableError, match="in time"):
            await client.complete(**ask("another text"))
        assert client.state().reason == "time-out"


async def test_each_request_is_told_of_for_its_span_without_its_words() -> None:
    answers = iter([status(503), chat("secret answer")])
    told: list[ModelCall] = []
    async with (
        serving(lambda *_: next(answers)) as endpoint,
        client_of(endpoint.url, patience_seconds=PATIENCE) as client,
    ):
        client.watch(permitted=lambda: True, traced=told.append)
        await client.complete([{"role": "user", "content": "secret question"}], max_tokens=5)
    failed, answered = told
    assert (failed.failed, answered.failed) == ("OverloadedError", "")
    assert f"http://{answered.host}:{answered.port}/v1" == endpoint.url
    assert (answered.model, answered.answered_by, answered.finish_reason) == ("m", "m", "stop")
    assert (answered.input_tokens, answered.output_tokens, answered.max_tokens) == (10, 7, 5)
    assert failed.began <= failed.ended <= answered.began <= answered.ended
    assert "secret" not in repr(told)
    # What is kept until the end of the step costs the garbage collector nothing.
    assert all(isinstance(value, str | int | float) for value in (*failed, *answered))
