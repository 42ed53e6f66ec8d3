"""The augment step: all variants in one call, each checked, refused ones with the reason."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agents.augment import Augmenter
from connectors.llm.cache import Shared
from streams.core.codec import decode, encode
from streams.core.errors import TOO_LONG, RefusedError, UnavailableError
from streams.core.messages import Augmented
from streams.core.outcomes import Done, Reject, Retry
from tests.unit.agents.fakes import FakeModel, NoMemory, Said, labeled
from tests.unit.streams.privacy.fakes import make_door

VARIANTS = ["когда привезут мой заказ", "Где мой заказ?", "заказ до сих пор не пришёл"]


def saying(*variants: Any) -> str:
    return json.dumps({"variants": variants})


async def augmented(model: FakeModel, variants: int = 3, text: str = "где мой заказ") -> Augmented:
    outcome = await Augmenter(model, variants, NoMemory()).augment(labeled(text))
    assert isinstance(outcome, Done), outcome
    return outcome.message


async def test_one_call_for_all_and_each_is_checked() -> None:
    model = FakeModel(lambda asked: saying(*VARIANTS), name="qwen")
    message = await augmented(model)
    assert message.variants == [VARIANTS[0], VARIANTS[2]]
    assert [(one.text, one.reason) for one in message.rejected] == [(VARIANTS[1], "copy-of-source")]
    assert (message.augment_model, message.label, message.row_id) == ("qwen", "delivery", "1")
    assert decode(Augmented, encode(message)) == message
    assert len(model.asked) == 1
    asked = model.asked[0]
    assert asked["schema"]["properties"]["variants"]["minItems"] == 3
    assert asked["logprobs"] == 0


async def test_none_are_asked_for_where_none_are_wanted() -> None:
    model = FakeModel(lambda asked: saying())
    message = await augmented(model, variants=0)
    assert (message.variants, message.augment_model, model.asked) == ([], "", [])


@pytest.mark.parametrize("bad", ["", "нет", '{"variants": "a"}', '{"variants": [1]}', '{"label": "x"}'])
async def test_an_invalid_answer_gets_one_stricter_try_and_then_a_dead_letter(bad: str) -> None:
    answers = [bad, saying(*VARIANTS)]
    assert len((await augmented(FakeModel(lambda asked: answers.pop(0)))).variants) == 2
    outcome = await Augmenter(FakeModel(lambda asked: bad), 3, NoMemory()).augment(labeled())
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.attempts) == ("invalid-answer", 2)


async def test_more_than_asked_for_are_not_taken() -> None:
    message = await augmented(FakeModel(lambda asked: saying(*VARIANTS, "ещё одна про заказ")), variants=2)
    assert len(message.variants) + len(message.rejected) == 2


async def test_an_answer_that_was_cut_off_is_asked_for_with_more_tokens() -> None:
    def script(asked: dict[str, Any]) -> Said:
        if asked["max_tokens"] < 1000:
            return Said('{"variants": ["когда при', finish_reason="length")
        return Said(saying(*VARIANTS))

    assert len((await augmented(FakeModel(script))).variants) == 2


async def test_halves_of_surrogates_and_control_characters_do_not_reach_the_topic() -> None:
    said = '{"variants": ["заказ не при\\ud800шёл\\u0000", "\\u202eзаказ где он", "когда привезут заказ"]}'
    message = await augmented(FakeModel(lambda asked: said))
    assert decode(Augmented, encode(message)) == message
    assert not any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for v in message.variants for c in v)


async def test_errors_become_outcomes() -> None:
    def away(asked: dict[str, Any]) -> str:
        raise UnavailableError("away")

    def long(asked: dict[str, Any]) -> str:
        raise RefusedError("maximum context length", reason=TOO_LONG)

    assert await Augmenter(FakeModel(away), 3, NoMemory()).augment(labeled()) == Retry(0.5, "away")
    model = FakeModel(long)
    outcome = await Augmenter(model, 3, NoMemory()).augment(labeled("заказ " * 1000))
    assert isinstance(outcome, Reject)
    assert (outcome.reason, len(model.asked)) == (TOO_LONG, 2)


async def test_equal_texts_share_a_call_also_across_a_restart() -> None:
    model = FakeModel(lambda asked: saying(*VARIANTS))
    step = Augmenter(model, 3, Shared())
    outcomes = await asyncio.gather(*(step.augment(labeled(text)) for text in ("Где заказ", "где  заказ")))
    assert len(model.asked) == 1
    first = outcomes[0]
    assert isinstance(first, Done)
    answers = Shared()
    restarted = Augmenter(model, 3, answers)
    entry = restarted.cache_entry(decode(Augmented, encode(first.message)))
    assert entry is not None
    answers.warm(*entry)
    again = await restarted.augment(labeled("ГДЕ заказ"))
    assert isinstance(again, Done)
    assert again.message.variants == first.message.variants
    assert len(model.asked) == 1
    assert Augmenter(model, 5, answers).cache_entry(first.message) is None


async def test_a_variant_with_invented_personal_data_is_rejected_and_not_shown() -> None:
    said = [
        "жду звонка на [ТЕЛЕФОН], адрес [АДРЕС]",
        "мой [ТЕЛЕФОН] и [АДРЕС], ул. Ленина, д. 5, кв. 7",
        "перезвоните на +7 912 345-67-89, живу в [АДРЕС]",
    ]
    step = Augmenter(FakeModel(lambda asked: saying(*said)), 3, NoMemory(), mask=make_door().texts)
    outcome = await step.augment(labeled("позвоните на [ТЕЛЕФОН], мой адрес [АДРЕС]"))
    assert isinstance(outcome, Done)
    assert outcome.message.variants == [said[0]]
    assert [(one.text, one.reason) for one in outcome.message.rejected] == [
        ("перезвоните на [ТЕЛЕФОН], живу в [АДРЕС]", "placeholder-changed"),
        ("мой [ТЕЛЕФОН] и [АДРЕС], [АДРЕС_2]", "placeholder-changed"),
    ]
    step = Augmenter(FakeModel(lambda asked: saying(*VARIANTS)), 3, NoMemory(), mask=make_door().texts)
    outcome = await step.augment(labeled())
    assert isinstance(outcome, Done)
    assert outcome.message.variants == [VARIANTS[0], VARIANTS[2]]
