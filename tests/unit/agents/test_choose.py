"""Labels by letter: one token, the whole distribution, and JSON where that does not work."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agents.choose import Chooser
from agents.label import make_labeler
from streams.core.environment import load
from streams.core.errors import RefusedError, RetryableError
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
    assert len(model.asked) == 1
    asked = model.asked[0]
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
        sure = 0.9 if "уверенно" in asked["messages"][1]["content"] else 0.1
        letter = letters["payment"]
        return Said("Ответ", [Token("Ответ", {"Ответ": 1 - sure, letter: sure})], "length")

    model = FakeModel(script)
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    sure = await step(row("уверенно"))
    assert isinstance(sure, Done)
    assert sure.message.label == "payment"
    assert len(model.asked) == 1
    unsure = await step(row("никак"))
    assert isinstance(unsure, Done)
    assert unsure.message.label == "other"
    assert len(model.asked) == 3


async def test_without_logprobs_the_letter_is_the_label_without_confidence() -> None:
    def script(asked: dict[str, Any]) -> Said | str:
        if asked["logprobs"]:
            raise RefusedError("logprobs are not supported")
        return letters_of(asked)["payment"]

    model = FakeModel(script)
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    outcome = await step(row())
    assert isinstance(outcome, Done)
    assert (outcome.message.label, outcome.message.confidence) == ("payment", None)


async def test_an_endpoint_that_does_not_know_choices_is_asked_without() -> None:
    def script(asked: dict[str, Any]) -> Said | str:
        if asked["choice"] is not None:
            raise RefusedError("extra inputs are not permitted: structured_outputs")
        return picking("payment")(asked)

    model = FakeModel(script)
    step, _ = await make_labeler(CHOICE, model, taxonomy(), NoMemory())
    for _ in range(2):
        outcome = await step(row())
        assert isinstance(outcome, Done)
        assert outcome.message.label == "payment"
    assert len(model.asked) == 3


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


async def test_refused_whatever_is_left_out_is_a_dead_letter() -> None:
    def script(asked: dict[str, Any]) -> str:
        raise RefusedError("no", reason="refused-by-model")

    step, _ = await make_labeler(CHOICE, FakeModel(script), taxonomy(), NoMemory())
    assert await step(row()) == Reject("refused-by-model", "no")
