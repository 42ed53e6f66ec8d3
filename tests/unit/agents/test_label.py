"""The label step: only labels of the taxonomy, one stricter try, then a dead letter."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agents.label import Decision, Labeler, answer_key, cache_entry, label_version, make_labeler
from agents.prompting import prompt_text
from connectors.llm.cache import Shared
from streams.core.calibration import VersionCalibration
from streams.core.codec import decode, encode
from streams.core.environment import load
from streams.core.errors import (
    REFUSAL,
    TOO_LONG,
    AccessError,
    AnswerError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from streams.core.messages import Labeled
from streams.core.outcomes import Done, Reject, Retry
from tests.unit.agents.fakes import FakeModel, NoMemory, Said, Token, row, taxonomy

SETTINGS = load({}, None)


def labeler(
    model: FakeModel,
    answers: Any = None,
    names: tuple[str, ...] = (),
    calibration: VersionCalibration | None = None,
) -> Labeler:
    return Labeler(
        model,
        model.name,
        prompt_text("label"),
        taxonomy(*names),
        "v1",
        answers if answers is not None else NoMemory(),
        calibration=lambda: calibration,
    )


async def labeled(model: FakeModel, text: str = "где мой заказ") -> Labeled:
    outcome = await labeler(model).label(row(text))
    assert isinstance(outcome, Done), outcome
    return outcome.message


async def test_a_label_and_all_that_was_known_before() -> None:
    tokens = [
        Token('{"label": "'),
        Token("refund", {"refund": 0.75, "payment": 0.25}),
        Token('"}'),
    ]
    model = FakeModel(lambda asked: Said('{"label": "refund"}', tokens))
    message = await labeled(model)
    assert (message.label, message.confidence, message.label_version) == ("refund", 0.75, "v1")
    assert [(one.label, one.confidence) for one in message.alternatives] == [("payment", 0.25)]
    assert (message.model, message.cached) == ("mistral-7b", False)
    assert (message.row_id, message.user_id, message.source_domain) == ("1", "u", "d")
    assert decode(Labeled, encode(message)) == message
    asked = model.asked[0]
    assert asked["schema"]["properties"]["label"]["enum"] == list(taxonomy().names)
    assert (asked["temperature"], asked["logprobs"]) == (0.0, 20)


async def test_without_logprobs_there_is_no_confidence() -> None:
    message = await labeled(FakeModel(lambda asked: '{"label": "refund"}'))
    assert (message.confidence, message.alternatives) == (None, [])


@pytest.mark.parametrize(
    "bad", ["", "refund or payment", '{"label": "no_such"}', '{"label": 5}', '{"label": ["refund"]}']
)
async def test_an_invalid_answer_gets_one_stricter_try(bad: str) -> None:
    answers = [bad, '{"label": "refund"}']
    model = FakeModel(lambda asked: answers.pop(0))
    assert (await labeled(model)).label == "refund"
    first, second = (asked["messages"] for asked in model.asked)
    assert second[0] == first[0]
    # One turn of the user's: chat templates such as Mistral's refuse two in a row.
    assert [message["role"] for message in second] == ["system", "user"]
    query, _, stricter = second[1]["content"].partition("</query>")
    assert first[1]["content"] == query + "</query>"
    assert all(name in stricter for name in taxonomy().names)


async def test_two_invalid_answers_are_a_dead_letter() -> None:
    model = FakeModel(lambda asked: "не знаю")
    outcome = await labeler(model).label(row())
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.attempts) == ("invalid-answer", 2)
    assert "не знаю" in outcome.error
    assert len(model.asked) == 2


@pytest.mark.parametrize(
    ("said", "finish"),
    [("I'm sorry, but I can't help with that.", "stop"), ("It may be used to do harm.", REFUSAL)],
)
async def test_a_refusal_has_its_own_reason(said: str, finish: str) -> None:
    outcome = await labeler(FakeModel(lambda asked: Said(said, finish_reason=finish))).label(row())
    assert isinstance(outcome, Reject)
    assert (outcome.reason, outcome.attempts) == ("refusal", 2)
    assert said[:20] in outcome.error


@pytest.mark.parametrize(
    "said",
    [
        "refund",
        "Refund.",
        '"refund"',
        '{"label": "REFUND"}',
        '{"label": " refund. "}',
        '{"label": "«refund»"}',
    ],
)
async def test_a_label_that_is_meant_is_taken_at_once(said: str) -> None:
    model = FakeModel(lambda asked: said)
    assert (await labeled(model)).label == "refund"
    assert len(model.asked) == 1


async def test_a_label_in_other_case_has_the_confidence_of_its_own_tokens() -> None:
    tokens = [Token('{"label": "'), Token("REFUND", {"REFUND": 0.5, "PAYMENT": 0.25}), Token('"}')]
    message = await labeled(FakeModel(lambda asked: Said('{"label": "REFUND"}', tokens)))
    assert (message.label, message.confidence) == ("refund", 0.5)
    tokens = [Token('{"label": "'), Token("Возврат"), Token('"}')]
    title = next(one.title for one in taxonomy().domains if one.name == "refund")
    message = await labeled(FakeModel(lambda asked: Said(f'{{"label": "{title}"}}', tokens)))
    assert (message.label, message.confidence) == ("refund", None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (RefusedError("bad", reason="refused-by-model"), Reject("refused-by-model", "bad")),
        (AnswerError("odd"), Reject("invalid-answer", "odd", 2)),
        (UnavailableError("away"), Retry(0.5, "away")),
        (OverloadedError("full", after=7.0), Retry(7.0, "full")),
        (RetryableError("HTTP 500"), Retry(0.5, "HTTP 500")),
        (AccessError("key", setting="LLM_KEY"), Retry(5.0, "LLM_KEY: key")),
    ],
)
async def test_what_each_error_means_for_the_row(error: Exception, outcome: object) -> None:
    def script(asked: dict[str, Any]) -> str:
        raise error

    step = labeler(FakeModel(script))
    assert await step.label(row()) == outcome


async def test_a_text_too_long_for_the_model_is_tried_once_more_shortened() -> None:
    def script(asked: dict[str, Any]) -> str:
        if len(asked["messages"][1]["content"]) > 1500:
            raise RefusedError("maximum context length", reason=TOO_LONG)
        return '{"label": "refund"}'

    model = FakeModel(script)
    text = "верните деньги " * 1000
    message = await labeled(model, text)
    assert (message.label, message.text) == ("refund", row(text).text)
    assert len(model.asked) == 2

    def never(asked: dict[str, Any]) -> str:
        raise RefusedError("maximum context length", reason=TOO_LONG)

    for text, tries in (("верните деньги " * 1000, 2), ("коротко", 1)):
        model = FakeModel(never)
        outcome = await labeler(model).label(row(text))
        assert isinstance(outcome, Reject)
        assert outcome.reason == TOO_LONG
        assert len(model.asked) == tries


async def test_a_model_that_thinks_first_gets_the_tokens_for_it() -> None:
    def script(asked: dict[str, Any]) -> Said:
        if asked["max_tokens"] < 1000:
            return Said("<think>Клиент хочет", finish_reason="length")
        return Said('<think>Клиент хочет {"label": "x"}</think>{"label": "refund"}')

    model = FakeModel(script)
    step = labeler(model)
    for number in range(3):
        outcome = await step.label(row(f"вопрос {number}"))
        assert isinstance(outcome, Done)
        assert outcome.message.label == "refund"
    assert len(model.asked) == 4  # only the first row met it


async def test_equal_texts_are_asked_once_and_say_so() -> None:
    model = FakeModel(lambda asked: '{"label": "refund"}')
    step = labeler(model, Shared())
    texts = ["Где заказ", "где  заказ", "ГДЕ ЗАКАЗ", "где карта"]
    outcomes = await asyncio.gather(*(step.label(row(text, str(n))) for n, text in enumerate(texts)))
    cached = [outcome.message.cached for outcome in outcomes if isinstance(outcome, Done)]
    assert cached == [False, True, True, False]
    assert len(model.asked) == 2


async def test_what_was_published_before_a_restart_is_not_asked_again() -> None:
    tokens = [Token('{"label": "'), Token("refund", {"refund": 0.75, "payment": 0.25}), Token('"}')]
    first = await labeler(FakeModel(lambda asked: Said('{"label": "refund"}', tokens)), Shared()).label(row())
    assert isinstance(first, Done)
    published = decode(Labeled, encode(first.message))

    def never(asked: dict[str, Any]) -> str:
        raise AssertionError("asked again")

    answers = Shared()
    answers.warm(*cache_entry(published))
    again = await labeler(FakeModel(never), answers).label(row("ГДЕ мой заказ", "2"))
    assert isinstance(again, Done)
    assert again.message.cached
    assert (again.message.label, again.message.confidence) == ("refund", 0.75)
    assert again.message.alternatives == published.alternatives
    assert again.message.row_id == "2"


async def test_the_cache_holds_what_was_reported_and_messages_what_it_means() -> None:
    tokens = [Token('{"label": "'), Token("refund", {"refund": 0.8, "payment": 0.2}), Token('"}')]
    model = FakeModel(lambda asked: Said('{"label": "refund"}', tokens))
    second = VersionCalibration(
        version="v1", generation=2, method="temperature", temperature=2, rows=300, log_loss=0, log_loss_raw=1
    )
    shared = Shared()
    raw = await labeler(model, shared).label(row())
    scaled = await labeler(model, shared, calibration=second).label(row(row_id="2"))
    assert isinstance(raw, Done)
    assert isinstance(scaled, Done)
    assert (raw.message.confidence, raw.message.confidence_raw, raw.message.calibration) == (0.8, 0.8, None)
    assert scaled.message.cached
    assert (scaled.message.confidence_raw, scaled.message.calibration) == (0.8, 2)
    assert scaled.message.confidence == pytest.approx(2 / 3)
    assert scaled.message.alternatives[0].confidence == pytest.approx(1 / 3)

    published = decode(Labeled, encode(scaled.message))
    known = cache_entry(published, {2: second})
    decision = Decision.unpack(known[1])
    assert (decision.label, decision.confidence) == ("refund", 0.8)
    assert [tuple(one) for one in decision.alternatives] == [("payment", pytest.approx(0.2))]
    before = Decision.unpack(cache_entry(published, {1: second})[1])
    assert (before.confidence, list(before.alternatives)) == (0.8, [])
    as_reported = Decision.unpack(cache_entry(decode(Labeled, encode(raw.message)))[1])
    assert [tuple(one) for one in as_reported.alternatives] == [("payment", pytest.approx(0.2))]


def test_answers_of_other_versions_and_texts_are_other_answers() -> None:
    assert answer_key("v1", "где  Заказ") == answer_key("v1", "Где заказ")
    assert answer_key("v1", "а") != answer_key("v2", "а")
    assert answer_key("v1", "а") != answer_key("v1", "б")
    assert len(answer_key("v1", "\ud800")) == 16
    packed = Decision("refund", None, ()).pack()
    assert Decision.unpack(packed) == Decision("refund", None, ())


async def test_the_version_changes_with_model_taxonomy_and_mode_and_may_be_named() -> None:
    base = label_version("m", "p", taxonomy(), "json")
    assert base == label_version("m", "p", taxonomy(), "json")
    others = {
        label_version("m2", "p", taxonomy(), "json"),
        label_version("m", "p2", taxonomy(), "json"),
        label_version("m", "p", taxonomy("a", "b"), "json"),
        label_version("m", "p", taxonomy(), "choice"),
    }
    assert len({base, *others}) == 5
    model = FakeModel(lambda asked: '{"label": "refund"}', name="org/Модель 7B")
    _, made = await make_labeler(SETTINGS, model, taxonomy(), NoMemory())
    assert made.startswith("org-7B.")
    named = load({"LABEL_VERSION": "2026-q1"}, None)
    assert (await make_labeler(named, model, taxonomy(), NoMemory()))[1] == "2026-q1"
