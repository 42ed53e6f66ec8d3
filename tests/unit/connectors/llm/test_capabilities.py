"""What an endpoint takes is found out once, with the first requests, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from connectors.llm.capabilities import CHOICE_FORMS
from streams.core.errors import AnswerError, RefusedError, RetryableError
from tests.unit.connectors.llm.fakes import chat, client_of, serving, status

pytestmark = pytest.mark.usefixtures("short_pauses")

LABEL: dict[str, Any] = {
    "messages": [{"role": "system", "content": "Choose."}, {"role": "user", "content": "q"}],
    "max_tokens": 60,
    "schema": {"type": "object"},
    "logprobs": 20,
}


def refusing(refuses: Callable[[dict[str, Any]], Any], said: str) -> Callable[..., Any]:
    """An endpoint that refuses some requests, saying so."""
    return lambda body, _: status(400, said) if refuses(body) else chat("ok")


@pytest.mark.parametrize(
    ("refuses", "said", "left"),
    [
        (lambda b: b.get("top_logprobs", 0) > 5, "greater than max allowed logprobs: 5", {"top_logprobs": 5}),
        (
            lambda b: b.get("logprobs"),
            "`logprobs` is not supported",
            {"logprobs": None, "top_logprobs": None},
        ),
        (lambda b: "response_format" in b, "unknown field response_format", {"response_format": None}),
        (
            lambda b: b.get("response_format", {}).get("type") == "json_schema",
            "response_format.type: expected json_object",
            {"response_format": {"type": "json_object"}, "top_logprobs": 20},
        ),
        (
            lambda b: "max_tokens" in b,
            "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens'",
            {"max_tokens": None, "max_completion_tokens": 60, "top_logprobs": 20},
        ),
        (
            lambda b: "temperature" in b,
            "Unsupported value: 'temperature' does not support 0 with this model.",
            {"temperature": None, "top_logprobs": 20},
        ),
        (
            lambda b: b["messages"][0]["role"] == "system",
            "System role not supported",
            {"messages": [{"role": "user", "content": "Choose.\n\nq"}], "top_logprobs": 20},
        ),
        # A refusal without a word of the reason: only the part is left out without which it is taken.
        (
            lambda b: b["messages"][0]["role"] == "system",
            "Bad Request",
            {"top_logprobs": 20, "max_tokens": 60},
        ),
        (lambda b: "response_format" in b, "Bad Request", {"response_format": None, "top_logprobs": 20}),
        (lambda b: b.get("top_logprobs", 0) > 5, "Bad Request", {"top_logprobs": 5}),
        (
            lambda b: "response_format" in b or "logprobs" in b,
            "extra inputs are not permitted",
            {"response_format": None, "logprobs": None, "max_tokens": 60},
        ),
        # One refusal after the other.
        (
            lambda b: "max_tokens" in b or "temperature" in b or "logprobs" in b,
            "'max_tokens', 'temperature' and 'logprobs' are not supported",
            {"max_tokens": None, "temperature": None, "logprobs": None, "max_completion_tokens": 60},
        ),
    ],
)
async def test_what_an_endpoint_refuses_is_left_out_from_then_on(
    refuses: Any, said: str, left: dict[str, Any]
) -> None:
    async with serving(refusing(refuses, said)) as there, client_of(there.url) as client:
        with structlog.testing.capture_logs() as logs:
            for _ in range(3):
                assert (await client.complete(**LABEL)).text == "ok"
        assert {name: there.asked[-1].get(name) for name in left} == left
        before = len(there.asked)
        await client.complete(**LABEL)
        assert len(there.asked) == before + 1
        assert len([one for one in logs if one["log_level"] == "warning"]) == 1
        assert said[:40] in logs[0]["why"]


async def test_a_chat_template_without_a_system_role_may_answer_500() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        system = body["messages"][0]["role"] == "system"
        return status(500, '{"error": {"message": "System role not supported"}}') if system else chat("ok")

    async with serving(script) as there, client_of(there.url) as client:
        for _ in range(2):
            assert (await client.complete(**LABEL)).text == "ok"
        assert len(there.asked) == 3


async def test_a_form_is_found_by_an_answer_that_cannot_be_read() -> None:
    def unreadable(_: Any) -> None:
        raise AnswerError("no label")

    script = refusing(lambda b: b.get("top_logprobs", 0) > 5, "Bad Request")
    async with serving(script) as there, client_of(there.url) as client:
        with pytest.raises(AnswerError):
            await client.complete(**LABEL, check=unreadable, at_once=(AnswerError,))
        await client.complete(**LABEL)
        assert [body["top_logprobs"] for body in there.asked] == [20, 5, 5]


async def test_a_server_that_fails_with_a_field_that_it_does_not_know_is_asked_in_the_next_form() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return (
            status(500, "unexpected keyword") if "structured_outputs" in body else holding("regex")(body, _)
        )

    async with serving(script) as there, client_of(there.url) as client:
        assert await client.holds_choice(["A", "B"])
        assert "regex" in there.asked[-1]


async def test_one_failure_does_not_change_the_form_of_choice() -> None:
    failures = [status(500, "out of memory"), chat("", finish="abort")]

    def script(body: dict[str, Any], request: Any) -> Any:
        return failures.pop() if failures else holding("structured_outputs")(body, request)

    async with serving(script) as there, client_of(there.url) as client:
        assert await client.holds_choice(["A", "B"])
        assert client.capabilities("m").choice == "structured_outputs"
        assert len(there.asked) == 3


async def test_what_was_found_out_is_told_in_a_line() -> None:
    def refuses(body: dict[str, Any]) -> bool:
        return body.get("top_logprobs", 0) > 5 or "temperature" in body

    script = refusing(refuses, "top_logprobs and temperature are not supported")
    async with serving(script) as there, client_of(there.url) as client:
        assert client.form == ""
        await client.complete(**LABEL)
        assert client.form == "json_schema, 5 logprobs, no temperature"
        there.script = holding("grammar")
        assert await client.holds_choice(["A", "B"])
        assert client.form == "json_schema, 5 logprobs, choice as grammar, no temperature"


async def test_many_requests_that_meet_the_same_refusal_find_out_once() -> None:
    async def script(body: dict[str, Any], _: Any) -> Any:
        await asyncio.sleep(0.01)
        return status(400, "logprobs: at most 5") if body["top_logprobs"] > 5 else chat("ok")

    async with serving(script) as there, client_of(there.url, patience_seconds=60.0) as client:
        await asyncio.gather(*(client.complete(**LABEL) for _ in range(20)))
        assert sum(body["top_logprobs"] > 5 for body in there.asked) <= 20
        assert len(there.asked) <= 40


async def test_a_text_that_is_refused_costs_the_others_nothing() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(400, "blocked by policy") if "яд" in body["messages"][-1]["content"] else chat("ok")

    poison = LABEL | {"messages": [{"role": "user", "content": "яд"}]}
    async with serving(script) as there, client_of(there.url) as client:
        with pytest.raises(RefusedError, match="blocked"):
            await client.complete(**poison)  # the first request of all
        await client.complete(**LABEL)
        assert (there.asked[-1]["top_logprobs"], "response_format" in there.asked[-1]) == (20, True)
        before = len(there.asked)
        with pytest.raises(RefusedError, match="blocked"):
            await client.complete(**poison)
        assert len(there.asked) == before + 1
        await client.complete(**LABEL)
        assert (there.asked[-1]["top_logprobs"], "response_format" in there.asked[-1]) == (20, True)


async def test_an_endpoint_that_refuses_everything_for_a_while_is_asked_as_before_when_it_is_back() -> None:
    async with serving(lambda *_: status(400, "budget exceeded")) as there, client_of(there.url) as client:
        for _ in range(10):
            with pytest.raises(RefusedError, match="budget"):
                await client.complete(**LABEL)
        assert len(there.asked) <= 40  # not every request tries every form
        there.script = lambda *_: chat("ok")
        await client.complete(**LABEL)
        assert (there.asked[-1]["top_logprobs"], "response_format" in there.asked[-1]) == (20, True)


async def test_each_model_of_an_endpoint_has_its_own_form() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(400, "no logprobs") if body["model"] == "small" and "logprobs" in body else chat("ok")

    async with serving(script) as there, client_of(there.url) as client:
        await client.asking("small").complete(**LABEL)
        assert "logprobs" not in there.asked[-1]
        await client.complete(**LABEL)
        assert "logprobs" in there.asked[-1]
        before = len(there.asked)
        await client.asking("small").complete(**LABEL)
        assert len(there.asked) == before + 1


def holding(*fields: str, refuse: bool = False) -> Callable[..., Any]:
    """An endpoint that knows one of the ``fields``, and ignores or refuses the others."""

    def script(body: dict[str, Any], _: Any) -> Any:
        if any(name in body for name in fields):
            return chat("A", finish="length")
        unknown = [name for name in body if name in CHOICE_FORMS]
        return status(400, f"extra inputs are not permitted: {unknown}") if refuse and unknown else chat("4")

    return script


@pytest.mark.parametrize("form", CHOICE_FORMS)
@pytest.mark.parametrize("refuse", [False, True])
async def test_a_choice_is_asked_for_in_the_form_that_the_server_holds(form: str, refuse: bool) -> None:
    async with serving(holding(form, refuse=refuse)) as there, client_of(there.url) as client:
        assert await client.holds_choice(["A", "B"])
        before = len(there.asked)
        assert before == CHOICE_FORMS.index(form) + 1  # type: ignore[arg-type]
        assert await client.holds_choice(["A", "B"])
        answer = await client.complete(**LABEL | {"schema": None, "max_tokens": 1}, choice=["A", "B"])
        assert answer.text == "A"
        assert len(there.asked) == before + 1
        assert form in there.asked[-1]
        wire = there.asked[-1][form]
        assert wire in ({"choice": ["A", "B"]}, ["A", "B"], 'root ::= "A" | "B"', "(A|B)")


async def test_an_endpoint_that_holds_no_choice_is_tried_once() -> None:
    async with serving(holding()) as there, client_of(there.url) as client:
        for _ in range(3):
            assert not await client.holds_choice(["A", "B"])
        assert len(there.asked) == len(CHOICE_FORMS) + 1


async def test_an_endpoint_that_refuses_everything_tells_nothing_about_choices() -> None:
    async with serving(lambda *_: status(400, "no budget")) as there, client_of(there.url) as client:
        with pytest.raises(RetryableError, match="no budget"):
            await client.holds_choice(["A", "B"])
        there.script = holding("grammar")
        assert await client.holds_choice(["A", "B"])


async def test_a_known_server_is_asked_in_its_own_form_first() -> None:
    async with serving(holding("grammar")) as there, client_of(there.url) as client:
        there.owner = "llamacpp"
        assert await client.holds_choice(["A", "B"])
        assert len(there.asked) == 1


@pytest.mark.parametrize("refused", [True, False])
async def test_a_grammar_without_probabilities_after_it_is_asked_for_alone(refused: bool) -> None:
    """Of llama-cpp-python, which takes another `logit_bias`, and of servers that ignore unknown fields."""

    def script(body: dict[str, Any], _: Any) -> Any:
        if refused and "logit_bias" in body:
            return status(
                422, '[{"loc": ["body", "logit_bias"], "msg": "Input should be a valid dictionary"}]'
            )
        return holding("grammar")(body, _)

    async with serving(script) as there, client_of(there.url) as client:
        there.owner = "llamacpp"
        assert await client.holds_choice(["A", "B"])
        assert len(there.asked) == 1 + refused
        await client.complete(**LABEL | {"schema": None, "max_tokens": 1}, choice=["A", "B"])
        sent = there.asked[-1]
        assert (sent["grammar"], sent["temperature"]) == ('root ::= "A" | "B"', 0.0)
        assert "post_sampling_probs" not in sent
        assert "logit_bias" not in sent


async def test_an_answer_without_probabilities_is_none_where_it_was_sampled() -> None:
    told = {
        "token": "B",
        "prob": 0.25,
        "top_probs": [{"token": "A", "prob": 0.75}, {"token": "B", "prob": 0.25}],
    }

    def script(body: dict[str, Any], _: Any) -> Any:
        return chat("B", finish="length", logprobs=logprobs)

    logprobs: Any = {"content": [told]}
    async with serving(script) as there, client_of(there.url) as client:
        there.owner = "llamacpp"
        assert await client.holds_choice(["A", "B"])
        for text in ("A", ""):
            answer = await client.complete(
                **LABEL | {"schema": None, "max_tokens": 1, "logprobs": 2}, choice=["A", "B"]
            )
            assert answer.text == text
            logprobs = None
        assert there.asked[-1]["temperature"] == 1.0
