"""What models write around an answer: thoughts, quotes, titles, refusals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.prompting import parse_answer
from agents.reading import LabelReader, is_refusal, without_thoughts
from agents.taxonomy import Taxonomy
from tests.unit.agents.fakes import taxonomy

MAYBE, FINAL = '{"label": "payment"}', '{"label": "refund"}'
TAGS = [
    ("<think>", "</think>"),
    ("<THINK>", "</THINK>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
]


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_what_was_only_thought_is_no_answer(opening: str, closing: str) -> None:
    assert parse_answer(f"{opening}Maybe {MAYBE}, or", "label") is None
    assert parse_answer(f"{opening}Maybe {MAYBE}?{closing}I cannot decide", "label") is None
    assert parse_answer(f"Maybe {MAYBE}?{closing}I cannot decide", "label") is None
    assert parse_answer(f"{opening}Maybe {MAYBE}?{closing}\n\n{FINAL}", "label") == "refund"
    assert parse_answer(f"{opening}a{closing}{opening}{MAYBE}{closing}{FINAL}", "label") == "refund"
    assert without_thoughts(f"{opening}Maybe payment{closing} refund ") == "refund"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        (f"<|channel|>analysis<|message|>maybe {MAYBE} or", None),
        (f"<|channel|>analysis<|message|>maybe {MAYBE}<|end|>", None),
        (
            f"<|channel|>analysis<|message|>{MAYBE}<|end|><|start|>assistant<|channel|>final<|message|>{FINAL}",
            "refund",
        ),
        (
            f"<|channel|>analysis<|message|>{MAYBE}<|end|><|start|>assistant<|channel|>final "
            f"<|constrain|>json<|message|>{FINAL}<|return|>",
            "refund",
        ),
        (f"analysisWe need a label: {MAYBE}?assistantfinal{FINAL}", "refund"),
        (f"analysisWe need a label: {MAYBE}?", None),
    ],
)
def test_channels_of_gpt_oss(text: str, label: str | None) -> None:
    assert parse_answer(text, "label") == label


def test_words_that_only_look_like_tags_are_kept() -> None:
    for text in ("I think of refund", "analysis of payment", "[refund]", "<b>refund</b>"):
        assert without_thoughts(text) == text


@given(st.text() | st.text(alphabet="<>[]|/think◁▷ {}", max_size=60))
def test_reading_never_fails(text: str) -> None:
    assert isinstance(without_thoughts(text), str)
    is_refusal(text)
    LabelReader(taxonomy()).meant(text)


@pytest.mark.parametrize(
    "said",
    [
        "account_access",
        "Account_Access",
        "ACCOUNT_ACCESS",
        " account_access\n",
        "account_access.",
        '"account_access"',
        "'account_access'",
        "«account_access»",
        "`account_access`",
        "**account_access**",
        "account access",
        "account-access",
        "D) account_access",
        "4. account_access",
        "account_access (Вход в личный кабинет)",
        "Вход в личный кабинет",
        "вход в личный кабинет.",
    ],
)
def test_the_label_that_was_meant(said: str) -> None:
    reader = LabelReader(
        Taxonomy.model_validate(
            {
                "domains": [
                    {"name": "account_access", "title": "Вход в личный кабинет", "description": "d"},
                    {"name": "access", "title": "Доступ", "description": "d"},
                ]
            }
        )
    )
    assert reader.meant(said) == "account_access"


def test_what_may_mean_two_labels_or_none_is_not_guessed() -> None:
    reader = LabelReader(
        Taxonomy.model_validate(
            {
                "domains": [
                    {"name": "refund", "title": "Деньги", "description": "d"},
                    {"name": "payment", "title": "Деньги", "description": "d"},
                    {"name": "Other", "title": "Прочее", "description": "d"},
                    {"name": "other", "title": "Другое", "description": "d"},
                ]
            }
        )
    )
    for said in ("деньги", "OTHER", "refund, payment", "refund or payment", "", "   ", ".", "ref", "unknown"):
        assert reader.meant(said) is None, said
    assert (reader.meant("Other"), reader.meant("other")) == ("Other", "other")  # each by its exact name
    assert reader.meant("прочее") == "Other"


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, I cannot assist.",
        "Sorry, I am not able to do this.",
        "I can't discuss that topic.",
        "As an AI language model, I do not",
        "Извините, я не могу помочь с этим запросом.",
        "К сожалению, я не могу ответить",
        "Я не могу обсуждать эту тему.",
        "<think>Is it allowed?</think>I cannot help.",
    ],
)
def test_a_refusal_is_known(text: str) -> None:
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text", ["", FINAL, "не знаю", "I think refund", "<think>I cannot", "извинительный тон"]
)
def test_other_answers_are_no_refusal(text: str) -> None:
    assert not is_refusal(text)
