"""The query is data: it cannot leave its delimiters, and answers are read wherever they stand."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.prompting import LONGEST, SHORTER, parse_answer, wrap_query


@given(st.text() | st.text(alphabet='<>/query&"\\\n\u2028\ud800 ', max_size=40))
def test_no_text_can_hold_a_delimiter_or_a_line_of_its_own(text: str) -> None:
    wrapped = wrap_query(text)
    lines = wrapped.split("\n")
    assert len(lines) == 3
    assert (lines[0], lines[2]) == ("<query>", "</query>")
    assert not set("<>&\u2028\u2029") & set(lines[1])
    assert lines[1].startswith('"')
    assert lines[1].endswith('"')
    inside = json.loads(lines[1])
    if len(text) <= LONGEST:
        assert inside == text.encode("utf-8", "replace").decode()


def test_a_long_text_keeps_its_ends() -> None:
    text = "начало " + "х" * 100_000 + " конец"
    for longest in (LONGEST, SHORTER):
        inside = json.loads(wrap_query(text, longest).split("\n")[1])
        assert len(inside) <= longest
        assert inside.startswith("начало")
        assert inside.endswith("конец")
        assert "[…]" in inside


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "refund"}',
        '  {"label":\n"refund"}\n',
        '```json\n{"label": "refund"}\n```',
        '```\n{"label": "refund", "why": "ok"}\n```',
        'Ответ: {"label": "refund"}. Готово.',
        '<think>Maybe {"label": "payment"}, hmm }</think>\n\n{"label": "refund"}',
        'no opening tag: {"label": "payment"}</think>{"label": "refund"}',
        '{"a": 1} {"label": "refund"}',
        '{"label": "payment"} — нет, {"label": "refund"}',
        '{ {"label": "refund"}',
        '{"label": "refund"} и ещё {',
    ],
)
def test_the_answer_is_found_wherever_it_stands(text: str) -> None:
    assert parse_answer(text, "label") == "refund"


@pytest.mark.parametrize(
    "text",
    ["", "refund", "{", "[]", "null", '{"other": 1}', '{"label"', "{" * 5000, '["label"]', '{"a":' * 3000],
)
def test_no_answer_is_none(text: str) -> None:
    assert parse_answer(text, "label") is None


@pytest.mark.parametrize(
    "text",
    [
        '<think>{"label": "refund"}</think>',
        '<think>is it {"label": "refund"} or',
        '{"label": "x"}</think> no',
    ],
)
def test_what_a_model_only_thought_is_no_answer(text: str) -> None:
    assert parse_answer(text, "label") is None


@given(st.text())
def test_parsing_never_crashes(text: str) -> None:
    parse_answer(text, "label")
    parse_answer('{"label": ' + text + "}", "label")
