"""Labels by letter: one token, the whole distribution, and JSON where that does not work."""

from __future__ import annotations

import re
from typing import Any

import pytest
import structlog

from agents.choose import Chooser
from agents.label import label_spec, labeler_of, make_labeler
from streams.core.environment import load
from streams.core.errors import AnswerError, RefusedError, RetryableError
from streams.core.outcomes import Done, Reject
from tests.unit.agents.fakes import FakeModel, NoMemory, Said, Token, row, taxonomy

CHOICE = load({"LLM_LABELER_MODE": "choice"}, None)
AUTO = load({"LLM_LABELER_MODE": "auto"}, None)


def letters_of(asked: dict[str, Any]) -> dict[str, str]:
    """Label to letter, as the prompt shows them."""
    system = asked["messages"][0]["content"]
    return {label: letter for letter, label in re.findall(r"^([A-Z])\. (\w+) \(", system, re.MULTILINE)}


def picking(label: str, *, otherwise: str = '{"label": "other"}') -> Any:
    """A model that picks ``label``, with 0.8 of the probability, and refund with 0.2."""

    def script(asked: dict[str, Any]) -> Said | str:
        letters = letters_of(asked)
        if not letters:
            return otherwise
        letter = letters[label]
        return Said(letter, [Token(letter, {letter: 0.8, letters["refund"]: 0.2})], "length")

    return script


async def test_one_token_gives_the_label_and_its_distribution() -> None:
    model = FakeModel(picking("payment"))
    step, version = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    outcome = await step(row())
    assert isinstance(outcome, Done)
    message = outcome.message
    assert (message.label, message.confidence) == ("payment", 0.8)
    assert [(one.label, one.confidence) for one in message.alternatives] == [("refund", 0.2)]
    assert len(model.asked) == 2  # one of them at the start
    asked = model.asked[1]
    assert asked["max_tokens"] == 1
    assert set(asked["choice"]) == set(letters_of(asked).values())
    assert set(letters_of(asked)) == set(taxonomy().names)
    assert asked["logprobs"] == len(taxonomy().names)
    _, by_json = await make_labeler(load({}, None), model, taxonomy(), NoMemory())
    assert version != by_json


async def test_options_are_shuffled_alike_for_a_version_and_otherwise_for_another() -> None:
    model = FakeModel(picking("payment"))
    orders = {seed: tuple(Chooser(model, taxonomy(), seed).options.values()) for seed in "abcdefgh"}
    assert orders["a"] == tuple(Chooser(model, taxonomy(), "a").options.values())
    assert len(set(orders.values())) == 8
    assert len({order[0] for order in orders.values()}) > 2


async def test_an_answer_that_is_no_option_is_read_from_its_distribution_or_asked_again_as_json() -> None:
    def script(asked: dict[str, Any]) -> Said | str:
        letters = letters_of(asked)
        if not letters:
            return '{"label": "other"}'
        sure = 0.1 if "никак" in asked["messages"][1]["content"] else 0.9
        letter = letters["payment"]
        return Said("Ответ", [Token("Ответ", {"Ответ": 1 - sure, letter: sure})], "length")

    model = FakeModel(script)
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    model.asked.clear()
    sure = await step(row("уверенно"))
    assert isinstance(sure, Done)
    assert (sure.message.label, sure.message.confidence) == ("payment", 0.9)
    assert len(model.asked) == 1
    unsure = await step(row("никак"))
    assert isinstance(unsure, Done)
    assert unsure.message.label == "other"
    assert len(model.asked) == 3


@pytest.mark.parametrize("answer", ["<", None])
async def test_a_mode_that_takes_two_calls_a_row_is_given_up_and_said_once(answer: str | None) -> None:
    """The options were held to at the start, and are no longer; ``None``: the answers are empty."""

    def script(asked: dict[str, Any]) -> Said | str:
        if not letters_of(asked) or len(model.asked) == 1:
            return picking("payment")(asked)
        if answer is None:
            raise AnswerError("the answer is empty")
        return answer

    model = FakeModel(script)
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    with structlog.testing.capture_logs() as logs:
        for number in range(10):
            outcome = await step(row(f"вопрос {number}"))
            assert isinstance(outcome, Done)
            assert outcome.message.label == "other"
    assert [one["event"] for one in logs if one["log_level"] == "warning"] == ["choice_not_used"]
    assert len(model.asked) == 1 + 3 + 10


async def test_without_logprobs_the_letter_is_the_label_without_confidence() -> None:
    model = FakeModel(lambda asked: letters_of(asked).get("payment", ""))
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    outcome = await step(row())
    assert isinstance(outcome, Done)
    assert (outcome.message.label, outcome.message.confidence) == ("payment", None)


async def test_an_endpoint_that_does_not_hold_answers_to_a_choice_is_asked_for_json_and_says_so_once() -> (
    None
):
    model = FakeModel(picking("payment"), holds=False)
    with structlog.testing.capture_logs() as logs:
        step, version = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    assert [one["log_level"] for one in logs] == ["warning"]
    assert version == (await make_labeler(load({}, None), model, taxonomy(), NoMemory()))[1]
    for _ in range(2):
        outcome = await step(row())
        assert isinstance(outcome, Done)
        assert outcome.message.label == "other"
    assert len(model.asked) == 2
    assert all(asked["schema"] is not None for asked in model.asked)


async def test_a_version_of_letters_on_an_endpoint_that_no_longer_holds_them_takes_one_call_a_row() -> None:
    spec = await label_spec(CHOICE, FakeModel(picking("payment")), taxonomy())
    assert spec.mode == "choice"
    model = FakeModel(picking("payment"), holds=False)
    outcome = await labeler_of(spec, model, NoMemory()).label(row())
    assert isinstance(outcome, Done)
    assert outcome.message.label == "other"
    assert len(model.asked) == 1


async def test_more_labels_than_probabilities_are_told_for_means_json() -> None:
    names = tuple(f"label_{number}" for number in range(21))
    model = FakeModel(lambda asked: '{"label": "label_20"}')
    step, _ = await make_labeler(CHOICE, model, taxonomy(*names), NoMemory())
    outcome = await step(row())
    assert isinstance(outcome, Done)
    assert outcome.message.label == "label_20"
    assert model.asked[0]["schema"] is not None


@pytest.mark.parametrize(
    ("script", "tokens"),
    [
        (picking("payment"), 1),
        (lambda asked: '{"label": "other"}', 60),  # answers JSON whatever it is asked
        (lambda asked: Said("<think>", [Token("<think>", {"<think>": 1.0})], "length"), 60),
        (lambda asked: letters_of(asked).get("payment", '{"label": "other"}'), 60),  # no probabilities
    ],
)
async def test_auto_takes_what_the_endpoint_supports(script: Any, tokens: int) -> None:
    model = FakeModel(script)
    step, _ = await make_labeler(AUTO, model, taxonomy(), NoMemory())
    probes = len(model.asked)
    assert probes == 1
    await step(row())
    assert model.asked[probes]["max_tokens"] == tokens


async def test_auto_does_not_guess_while_the_endpoint_is_away() -> None:
    def script(asked: dict[str, Any]) -> str:
        raise RetryableError("HTTP 500")

    with pytest.raises(RetryableError):
        await make_labeler(AUTO, FakeModel(script), taxonomy(), NoMemory())


async def test_a_row_that_is_refused_is_a_dead_letter() -> None:
    def script(asked: dict[str, Any]) -> str:
        raise RefusedError("no", reason="refused-by-model")

    spec = await label_spec(CHOICE, FakeModel(picking("payment")), taxonomy())
    step = labeler_of(spec, FakeModel(script), NoMemory()).label
    assert await step(row()) == Reject("refused-by-model", "no")
