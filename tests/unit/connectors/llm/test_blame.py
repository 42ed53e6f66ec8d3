"""The endpoint, the form of the requests, or the text: what each of them stops, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from aiohttp import web

from connectors.llm.client import ChatClient
from streams.core.errors import AnswerError, ConfigurationError, RefusedError
from tests.unit.connectors.llm.fakes import Endpoint, ask, chat, client_of, serving, status, until
from tests.waiting import PATIENCE

pytestmark = pytest.mark.usefixtures("short_pauses")

HARMLESS = "где мой заказ"
# After the first refusal: without max_tokens, without a temperature, without both; then as usual once more.
OTHER_FORMS = 4


@pytest.fixture(autouse=True)
def _short_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.llm.client._LONGEST_PAUSE", 0.05)


def text_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


@asynccontextmanager
async def patient(script: Callable[..., Any], **options: Any) -> AsyncIterator[tuple[Endpoint, ChatClient]]:
    """A server, and a client without an end of its patience, as in a worker."""
    async with (
        serving(script) as there,
        client_of(there.url, patience_seconds=float("inf"), **options) as client,
    ):
        yield there, client


async def given_up(client: ChatClient, text: str, **options: Any) -> Any:
    with pytest.raises((RefusedError, AnswerError)) as caught:
        await asyncio.wait_for(client.complete(**ask(text), **options), PATIENCE)
    return caught.value


REFUSALS: dict[str, Callable[[], Any]] = {
    **{str(code): lambda code=code: status(code, "blocked") for code in (302, 400, 403, 404, 413, 422, 429)},
    "500": lambda: status(500, "blocked"),
    "503": lambda: status(503, "blocked"),
    "error": lambda: {"error": {"message": "blocked"}},
    "filter": lambda: chat("blocked", finish="content_filter"),
    "abort": lambda: chat("blocked", finish="abort"),
    "empty": lambda: chat(""),
    "page": lambda: web.Response(text="<html>blocked</html>", content_type="text/html"),
    "choices": lambda: {"choices": None},
}


@pytest.mark.parametrize("way", REFUSALS)
async def test_a_text_that_fails_alone_is_given_up_whatever_the_way(way: str) -> None:
    """Nobody else is there: harmless texts are sent between its tries."""

    def script(body: dict[str, Any], _: Any) -> Any:
        return REFUSALS[way]() if text_of(body) == "bad" else chat("ok")

    async with patient(script) as (there, client):
        error = await given_up(client, "bad")
        assert error.attempts >= 3
        assert "only with this text" in str(error)
        assert client.available
        asked = [text_of(body) for body in there.asked]
        assert asked.count("bad") == error.attempts + (OTHER_FORMS if way in ("400", "422", "filter") else 0)
        assert all(HARMLESS in text for text in asked if text != "bad")
        assert len(set(asked)) > len(asked) / 2  # no cache could have answered


async def test_forbidden_texts_do_not_lower_the_limit() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(429) if text_of(body) == "bad" else chat("ok")

    async with patient(script, concurrency=16) as (_, client):
        client.limit.pace._level = 16.0
        reasons = set()

        async def others() -> None:
            number = 0
            while True:
                number += 1
                await client.complete(**ask(f"good {number}"))
                reasons.add(client.state().reason)

        going = asyncio.create_task(others())
        await given_up(client, "bad")
        going.cancel()
        assert "refused: no room" not in reasons


async def test_two_texts_for_which_there_is_no_room_lower_the_limit() -> None:
    full = True
    async with patient(lambda *_: status(429) if full else chat("ok"), concurrency=8) as (_, client):
        client.limit.pace._level = 8.0
        calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(2)]
        await until(lambda: client.limit.pace.limit < 8)
        full = False
        await asyncio.gather(*calls)


async def test_many_texts_that_fail_in_a_row_stop_nobody_if_a_harmless_one_is_answered() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(403, "blocked") if text_of(body).startswith("bad") else chat("ok")

    with structlog.testing.capture_logs() as logs:
        async with patient(script, concurrency=16) as (_, client):
            client.limit.pace._level = 16.0
            errors = await asyncio.gather(*(given_up(client, f"bad {n}") for n in range(12)))
            assert {error.reason for error in errors} == {"refused-by-model"}
    assert not [entry for entry in logs if "endpoint" in entry["event"]]


async def test_a_form_that_is_refused_for_all_pauses_and_names_the_endpoints_words() -> None:
    down = True

    def script(body: dict[str, Any], _: Any) -> Any:
        return status(400, "max_tokens is too large: 5") if down else chat("ok")

    with structlog.testing.capture_logs() as logs:
        async with patient(script) as (there, client):
            calls = [asyncio.create_task(client.complete(**ask(n))) for n in range(20)]
            await until(lambda: not client.available)
            assert isinstance(client.away, ConfigurationError)
            burnt = len(there.asked)
            await until(lambda: len(there.asked) > burnt + 1)
            assert all(HARMLESS in text_of(body) for body in there.asked[burnt + 2 :])
            down = False
            found = await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
            assert {one.text for one in found} == {"ok"}
    said = [entry for entry in logs if "endpoint" in entry["event"]]
    assert [entry["event"] for entry in said] == [
        "the endpoint refuses every request, nothing is sent to it",
        "the endpoint is back",
    ]
    assert "max_tokens is too large: 5" in said[0]["reason"]
    assert "max_tokens" in said[0]["fix"]


async def test_a_form_that_is_refused_stops_no_other_form() -> None:
    refusing = True

    def script(body: dict[str, Any], _: Any) -> Any:
        return status(404, "no such model") if refusing and body["model"] == "gone" else chat("ok")

    with structlog.testing.capture_logs() as logs:
        async with patient(script, concurrency=8) as (_, client):
            client.limit.pace._level = 8.0
            gone = client.asking("gone")
            waiting = [asyncio.create_task(gone.complete(**ask(f"row {n}"))) for n in range(4)]

            def said() -> list[Any]:
                return [entry for entry in logs if "one form" in entry["event"]]

            number = 0
            while not said():
                number += 1
                await asyncio.wait_for(client.complete(**ask(f"live {number}")), PATIENCE)
            assert client.available
            assert not any(call.done() for call in waiting)
            refusing = False
            await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert len(said()) == 1
    assert said()[0]["setting"] == "LLM_LABELER_MODEL"


async def test_who_waits_is_told_of_a_form_that_is_refused_beside_another_that_is_not() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(400, "no such adapter") if body["model"] == "gone" else chat("ok")

    async with serving(script) as there, client_of(there.url, patience_seconds=PATIENCE) as client:
        await client.complete(**ask("of another form"))
        gone = client.asking("gone")
        with structlog.testing.capture_logs() as logs:
            waiting = asyncio.gather(*(gone.complete(**ask(n)) for n in range(4)), return_exceptions=True)
            await until(lambda: any("one form" in entry["event"] for entry in logs))
            gone._patience = 0.0
            errors = await asyncio.wait_for(waiting, PATIENCE)
        assert {type(error) for error in errors} == {ConfigurationError}
        assert "no such adapter" in str(errors[0])


def readable(answer: Any) -> None:
    if answer.text != "ok":
        raise AnswerError(f"the model answered {answer.text!r}")


async def test_answers_that_cannot_be_used_are_a_texts_fault_only_if_others_can() -> None:
    garbled = True

    def script(body: dict[str, Any], _: Any) -> Any:
        return chat("the answer for somebody else" if garbled or text_of(body) == "bad" else "ok")

    async with patient(script) as (_, client):
        calls = [asyncio.create_task(client.complete(**ask(n), check=readable)) for n in range(10)]
        await until(lambda: not client.available)
        assert "cannot" not in str(client.away)
        assert "somebody else" in str(client.away)
        garbled = False
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE)
        error = await given_up(client, "bad", check=readable)
        assert isinstance(error, AnswerError)


@pytest.mark.parametrize("answer", [None, "well...", "<think>maybe"])
async def test_answers_to_neither_question_are_no_texts_fault(answer: str | None) -> None:
    broken = True

    def script(body: dict[str, Any], _: Any) -> Any:
        return chat(answer) if broken else chat("ok")

    async def row(number: int) -> None:
        with contextlib.suppress(AnswerError):
            await client.complete(**ask(number), check=readable, at_once=(AnswerError,))
            return
        await client.complete(**ask(f"{number} strictly"), check=readable)

    async with patient(script, concurrency=4) as (there, client):
        rows = asyncio.gather(*(row(number) for number in range(20)))
        await until(lambda: not client.available)
        assert len(there.asked) < 100
        assert client.away is not None
        assert client.away.fix == "serve a model that answers as it is asked"  # type: ignore[attr-defined]
        broken = False
        await asyncio.wait_for(rows, PATIENCE)


async def test_a_model_that_answers_the_second_question_only_is_no_reason_to_wait() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return chat("ok" if "strictly" in text_of(body) else "well...")

    async with patient(script, concurrency=16) as (_, client):
        client.limit.pace._level = 16.0

        async def row(number: int) -> None:
            with pytest.raises(AnswerError):
                await client.complete(**ask(number), check=readable, at_once=(AnswerError,))
            await client.complete(**ask(f"{number} strictly"), check=readable)

        await asyncio.gather(*(row(number) for number in range(40)))
        assert client.available
        assert client.stats["calls"] == 80


async def test_what_is_refused_on_trial_is_raised_at_once_and_is_no_evidence() -> None:
    async with patient(lambda *_: status(400, "response_format")) as (there, client):
        for number in range(5):
            with pytest.raises(RefusedError):
                await client.complete(**ask(number), at_once=(RefusedError,))
        assert len(there.asked) == 5 + OTHER_FORMS
        assert client.available


async def test_who_waits_for_an_answer_is_told_sooner_which_of_the_three_it_is() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(403, "blocked") if text_of(body) == "bad" else chat("ok")

    async with serving(script) as there, client_of(there.url, patience_seconds=PATIENCE) as client:
        with pytest.raises(RefusedError) as caught:
            await client.complete(**ask("bad"))
        assert caught.value.attempts <= 6
